"""A UNet as a function of tensors alone, in one order, for those that are compiled."""

from torch import Tensor, nn


class Unet(nn.Module):
    """The UNet of Stable Diffusion or Stable Diffusion XL, an IP-Adapter in it or not.

    more: with Stable Diffusion XL the pooled texts and the sizes, with an IP-Adapter the image embeddings (B, D), then
    the residuals of the controls. adapters: whether these are of T2I-Adapters.
    """

    def __init__(self, unet: nn.Module, adapters: bool):
        super().__init__()
        self.unet, self.adapters = unet, adapters
        self.large = unet.config.addition_embed_type == "text_time"
        self.sees_image = unet.config.encoder_hid_dim_type == "ip_image_proj"

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, *more: Tensor) -> tuple[Tensor]:
        told, added, rest = {}, {}, list(more)
        if self.large:
            added |= {"text_embeds": rest.pop(0), "time_ids": rest.pop(0)}
        if self.sees_image:
            added["image_embeds"] = [rest.pop(0)[:, None]]
        if self.adapters:
            told["down_intrablock_additional_residuals"] = rest
        elif rest:
            *down, told["mid_block_additional_residual"] = rest
            told["down_block_additional_residuals"] = down
        return self.unet(sample, time, states, added_cond_kwargs=added, return_dict=False, **told)
