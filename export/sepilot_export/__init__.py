"""From a trained net to files that a car can run."""

# Sets what TensorFlow reads when it is imported.
import sepilot_train as sepilot_train
