"""AlphaFold 2 in TensorFlow and Keras; what it says goes to the logger ``tffold``."""

import logging

# A program that imports the package and sets up no logging sees nothing; see ``tffold.logs``.
logging.getLogger(__name__).addHandler(logging.NullHandler())
