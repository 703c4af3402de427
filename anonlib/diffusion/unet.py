"""A UNet as a function of tensors alone, in one order, so that it can be compiled."""

from torch import Tensor, nn


class Unet(nn.Module):
    """The UNet of Stable Diffusion or Stable Diffusion XL, with or without an IP-Adapter.

    `adapters`: whether residuals are those of T2I-Adapters, not of ControlNets.
    """

    def __init__(self, unet: nn.Module, adapters: bool):
        super().__init__()
        self.unet, self.adapters = unet, adapters
        self.large = unet.config.addition_embed_type == "text_time"
        self.has_ip_adapter = unet.config.encoder_hid_dim_type == "ip_image_proj"

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, *more: Tensor) -> tuple[Tensor]:
        """Predict noise or velocity.

        more: For Stable Diffusion XL pooled texts and sizes, for an IP-Adapter image embeddings (B, D); then residuals.
        """
        kwargs, conditions, rest = {}, {}, list(more)
        if self.large:
            conditions |= {"text_embeds": rest.pop(0), "time_ids": rest.pop(0)}
        if self.has_ip_adapter:
            conditions["image_embeds"] = [rest.pop(0)[:, None]]
        if self.adapters:
            kwargs["down_intrablock_additional_residuals"] = rest
        elif rest:
            *down, kwargs["mid_block_additional_residual"] = rest
            kwargs["down_block_additional_residuals"] = down
        return self.unet(sample, time, states, added_cond_kwargs=conditions, return_dict=False, **kwargs)
