# No replay images of five people who are retained in all steps.
_base_ = './gs-lora_face-transformer_mini-faces_4x20.py'
forgetting = dict(
    missing=['id_007', 'id_009', 'id_010', 'id_017', 'id_022'])
