# FDR (ICLR 2019): wrong labels for the forget half; the probabilities of the
# retain half are held to those of the model before the step.
# Settings and their defaults: gslora_mm/methods/fdr.py
method = dict(type='gslora_mm.FDR')
adapter = None  # the papers' setting; for a LoRA see docs/en/methods.md
