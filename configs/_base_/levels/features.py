# Nor do its layers tell it, as far as docs/en/depth.md has measured: what
# behaviour.py asks for, and the layers of the model as it saw the image
# without the objects.
_base_ = ['../methods/counterfactual.py', '../schedules/features.py']
