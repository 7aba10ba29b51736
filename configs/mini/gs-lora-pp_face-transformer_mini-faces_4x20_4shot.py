# Four images of each person instead of a quarter of them.
_base_ = './gs-lora-pp_face-transformer_mini-faces_4x20.py'
forgetting = dict(retain_share=None, forget_share=None, shots=4)
