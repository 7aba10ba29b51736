# CASIA-100 in a single step: 5 people are forgotten, 95 stay (GS-LoRA++).
_base_ = './gs-lora-pp_face-transformer_casia-100_4x20.py'
forgetting = dict(steps=dict(num_steps=1, classes_per_step=5))
method = dict(beta=0.15)
