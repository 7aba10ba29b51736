# CASIA-100 in four steps, without a single image of five people who are to be
# kept: the first five of the shuffled list (GS-LoRA).
_base_ = './gs-lora_face-transformer_casia-100_4x20.py'
forgetting = dict(missing=['6332', '1595', '1299', '1248', '69'])
method = dict(
    beta=[0.14, 0.14, 0.2, 0.15], alpha_s=1.5e-2, warmup_epochs=30)
