"""What the car needs: the contract, the preprocessing, the engines, the drive loop.

The bottom layer. It imports numpy, OpenCV and one interpreter, never TensorFlow, Keras or ONNX tooling, and it owns
everything that training, export and the car must agree on.
"""

__version__ = "0.1.0"
