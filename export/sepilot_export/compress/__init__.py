"""Making a trained net smaller or faster: pruning, slimming, clustering, quantization-aware training, distillation."""
