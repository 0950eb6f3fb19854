"""Tables as training data, the same for every framework: read, understood, split, and described for whoever watches drift later.

pandas and scikit-learn are loaded by the modules that need them; `config` needs neither.
"""
