# CASIA-100 in four steps, four images of each person (GS-LoRA).
_base_ = './gs-lora_face-transformer_casia-100_4x20.py'
forgetting = dict(retain_share=None, forget_share=None, shots=4)
method = dict(beta=[0.3, 0.4, 0.28, 0.2])
schedule = dict(batch_size=8)  # 4 forget and 4 retain images
