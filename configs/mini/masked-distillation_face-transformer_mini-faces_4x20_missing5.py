# No replay images of five people who are retained in all steps, and who stay.
_base_ = './gs-lora_face-transformer_mini-faces_4x20_missing5.py'
method = dict(_delete_=True, type='gslora_mm.MaskedDistillation')
