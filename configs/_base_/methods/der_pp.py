# DER++ (NeurIPS 2020): DER, and the labels of the retain half.
# Settings and their defaults: gslora_mm/methods/der_pp.py
method = dict(type='gslora_mm.DERPP')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
