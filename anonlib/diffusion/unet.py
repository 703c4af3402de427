"""A UNet as functions of tensors alone, in one order, so that it can be compiled; whole, or its outermost blocks."""

from torch import Tensor, nn


class Unet(nn.Module):
    """The UNet of Stable Diffusion or Stable Diffusion XL, with or without an IP-Adapter.

    Args:
        unet: The network.
        adapters: Whether residuals are those of T2I-Adapters, not of ControlNets.
        text_keys: How many tensors of `attention.TextKeys` it takes.
    """

    def __init__(self, unet: nn.Module, adapters: bool, text_keys: int = 0):
        super().__init__()
        self.unet, self.adapters, self.text_keys = unet, adapters, text_keys
        self.large = unet.config.addition_embed_type == "text_time"
        self.has_ip_adapter = unet.config.encoder_hid_dim_type == "ip_image_proj"

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """Predict noise or velocity.

        more: For Stable Diffusion XL pooled texts and sizes, for an IP-Adapter image embeddings (B, D); text keys; then
        residuals.
        """
        conditions, keys, rest = self._split(more)
        kwargs = {"cross_attention_kwargs": keys}
        if self.adapters:
            kwargs["down_intrablock_additional_residuals"] = rest
        elif rest:
            *down, kwargs["mid_block_additional_residual"] = rest
            kwargs["down_block_additional_residuals"] = down
        return self.unet(sample, time, states, added_cond_kwargs=conditions, return_dict=False, **kwargs)

    def _split(self, more: tuple[Tensor, ...]) -> tuple[dict, dict | None, list[Tensor]]:
        """Return added conditions, keyword arguments of attention, and residuals."""
        conditions, rest = {}, list(more)
        if self.large:
            conditions |= {"text_embeds": rest.pop(0), "time_ids": rest.pop(0)}
        if self.has_ip_adapter:
            conditions["image_embeds"] = [rest.pop(0)[:, None]]
        keys, rest = rest[: self.text_keys], rest[self.text_keys :]
        return conditions, {"text_keys": tuple(keys)} if keys else None, rest

    def _embed(self, sample: Tensor, time: Tensor, states: Tensor, conditions: dict) -> tuple[Tensor, object]:
        """Return the time embedding and the states for attention, as in diffusers' forward pass."""
        unet = self.unet
        embedding = unet.time_embedding(unet.get_time_embed(sample, time))
        options = {"encoder_hidden_states": states, "added_cond_kwargs": conditions}
        added = unet.get_aug_embed(emb=embedding, **options)
        return embedding if added is None else embedding + added, unet.process_encoder_hidden_states(**options)

    def _block(self, block: nn.Module, x: Tensor, embedding: Tensor, states: object, keys: dict | None, **kwargs):
        if getattr(block, "has_cross_attention", False):
            kwargs |= {"encoder_hidden_states": states, "cross_attention_kwargs": keys}
        return block(hidden_states=x, temb=embedding, **kwargs)

    def _last(self, deep: Tensor, skips: list[Tensor], embedding: Tensor, states: object, keys: dict | None) -> Tensor:
        """Return the prediction from the input of the last up block."""
        unet, block = self.unet, self.unet.up_blocks[-1]
        x = self._block(block, deep, embedding, states, keys, res_hidden_states_tuple=tuple(skips))
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))


class DeepUnet(Unet):
    """The whole UNet; it also returns the input of its last up block, the features that DeepCache keeps."""

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        conditions, keys, rest = self._split(more)
        unet = self.unet
        embedding, states = self._embed(sample, time, states, conditions)
        x = unet.conv_in(sample)
        skips = [x]
        for block in unet.down_blocks:
            inner = {}
            if self.adapters and getattr(block, "has_cross_attention", False) and rest:
                inner["additional_residuals"] = rest.pop(0)
            x, own = self._block(block, x, embedding, states, keys, **inner)
            if self.adapters and not inner and rest:
                x = x + rest.pop(0)
                own = (*own[:-1], x)
            skips += own
        if not self.adapters and rest:
            skips = [skip + residual for skip, residual in zip(skips, rest, strict=False)]
        x = self._block(unet.mid_block, x, embedding, states, keys)
        if self.adapters and rest and rest[0].shape == x.shape:
            x = x + rest.pop(0)
        elif not self.adapters and rest:
            x = x + rest[-1]
        for block in unet.up_blocks[:-1]:
            own, skips = skips[-len(block.resnets) :], skips[: -len(block.resnets)]
            kwargs = {"res_hidden_states_tuple": tuple(own), "upsample_size": skips[-1].shape[2:]}
            x = self._block(block, x, embedding, states, keys, **kwargs)
        return self._last(x, skips, embedding, states, keys), x


class ShallowUnet(Unet):
    """The outermost blocks of the UNet on the deep features of an earlier step (DeepCache, Ma et al., 2024)."""

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, deep: Tensor, *more: Tensor) -> tuple[Tensor]:
        """Predict noise or velocity.

        deep: The second output of `DeepUnet`. more: As for the whole UNet.
        """
        conditions, keys, rest = self._split(more)
        unet, block = self.unet, self.unet.down_blocks[0]
        embedding, states = self._embed(sample, time, states, conditions)
        x = unet.conv_in(sample)
        inner = {}
        if self.adapters and getattr(block, "has_cross_attention", False) and rest:
            inner["additional_residuals"] = rest[0]
        skips = [x, *self._block(block, x, embedding, states, keys, **inner)[1]]
        skips = skips[: len(unet.up_blocks[-1].resnets)]
        if not self.adapters and rest:
            skips = [skip + residual for skip, residual in zip(skips, rest, strict=False)]
        return (self._last(deep, skips, embedding, states, keys),)
