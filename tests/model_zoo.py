"""Small models of other people's classes, each of them built as its users build it.

Small in width and depth; every kind of layer and every branch of the library's initialisation is there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from libraries import library
from torch import nn

Build = Callable[[], nn.Module]

SIZE = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = SIZE | {"vocab_size": 11, "max_position_embeddings": 7}
GROUPED = TEXT | {"num_key_value_heads": 1}
IMAGE = SIZE | {"image_size": 8, "patch_size": 4}
PAIR = {
    "vocab_size": 11,
    "d_model": 8,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
}
AUDIO = SIZE | {
    "vocab_size": 11,
    "conv_dim": (4, 4),
    "conv_stride": (2, 2),
    "conv_kernel": (3, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
TWO_STAGES = {"hidden_sizes": [4, 8], "depths": [1, 1]}

# By the name of the class: its configuration.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "AlbertForMaskedLM": TEXT | {"embedding_size": 4},
    "BartForConditionalGeneration": PAIR | {"max_position_embeddings": 7},
    "BeitForImageClassification": IMAGE | {"use_relative_position_bias": True, "layer_scale_init_value": 0.1},
    "BertForPreTraining": TEXT,
    "BloomForCausalLM": {"vocab_size": 11, "hidden_size": 8, "n_layer": 2, "n_head": 2},
    "CLIPModel": {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 6},
    "ConvNextForImageClassification": TWO_STAGES | {"num_stages": 2},
    "DebertaV2ForMaskedLM": TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DeiTForImageClassification": IMAGE,
    "Dinov2Model": IMAGE | {"mlp_ratio": 2},
    "DistilBertForMaskedLM": {
        "vocab_size": 11,
        "dim": 8,
        "hidden_dim": 12,
        "n_layers": 2,
        "n_heads": 2,
        "max_position_embeddings": 7,
        "sinusoidal_pos_embds": True,  # written by NumPy
    },
    "EfficientNetForImageClassification": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 8},
    "ElectraForPreTraining": TEXT | {"embedding_size": 4},
    "FalconForCausalLM": {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2},
    "GPT2LMHeadModel": {"n_embd": 8, "n_layer": 3, "n_head": 2, "vocab_size": 11, "n_positions": 7},
    "GPTNeoXForCausalLM": TEXT,
    "GemmaForCausalLM": GROUPED | {"head_dim": 4},
    "JambaForCausalLM": GROUPED
    | {
        "num_experts": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 4,
    },
    "LlamaForCausalLM": GROUPED | {"pad_token_id": 3},
    "LongformerForMaskedLM": TEXT | {"attention_window": 2},
    "Mamba2ForCausalLM": {
        "vocab_size": 11,
        "hidden_size": 8,
        "state_size": 4,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "head_dim": 4,
        "n_groups": 2,
    },
    "MambaForCausalLM": {
        "vocab_size": 11,
        "hidden_size": 8,
        "state_size": 4,
        "num_hidden_layers": 2,
        "time_step_rank": 2,
    },
    "MixtralForCausalLM": GROUPED | {"num_local_experts": 3},
    "OPTForCausalLM": {
        "vocab_size": 11,
        "hidden_size": 8,
        "ffn_dim": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 7,
        "word_embed_proj_dim": 6,
    },
    "Qwen2ForCausalLM": GROUPED,
    "ResNetForImageClassification": {"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 2]},
    "RobertaForMaskedLM": TEXT,
    "SamVisionModel": IMAGE | {"output_channels": 4, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 12},
    "SegformerForImageClassification": TWO_STAGES
    | {
        "num_encoder_blocks": 2,
        "num_attention_heads": [1, 2],
        "sr_ratios": [2, 1],
        "patch_sizes": [3, 3],
        "strides": [2, 2],
        "mlp_ratios": [2, 2],
    },
    "SiglipModel": {"text_config": TEXT, "vision_config": IMAGE},
    "SwinForImageClassification": {
        "image_size": 8,
        "patch_size": 2,
        "embed_dim": 4,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 2,
    },
    "T5ForConditionalGeneration": {
        "vocab_size": 11,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 12,
        "num_layers": 2,
        "num_heads": 2,
    },
    "ViTForImageClassification": IMAGE,
    "ViTMAEForPreTraining": IMAGE
    | {
        "decoder_hidden_size": 8,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 12,
    },
    "Wav2Vec2ForPreTraining": AUDIO | {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8},
    "WhisperForConditionalGeneration": PAIR
    | {
        "max_source_positions": 6,
        "max_target_positions": 6,
        "num_mel_bins": 5,
        "pad_token_id": 3,
        "bos_token_id": 4,
        "eos_token_id": 5,
        "decoder_start_token_id": 4,
    },
    "XLNetLMHeadModel": {"vocab_size": 11, "d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 12},
}

_TIMM_VIT = {"depth": 2, "embed_dim": 8, "num_heads": 2, "img_size": 32, "patch_size": 16, "num_classes": 5}
_TIMM_SWIN = {"depths": (1, 1), "num_heads": (1, 2), "embed_dim": 8, "num_classes": 5}
_TIMM_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (4, 8, 8, 8), "num_classes": 5}
# By a name of timm's registry: what it is called with.
TIMM: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": _TIMM_VIT,
    "cait_xxs24_224": _TIMM_VIT,
    "convnext_atto": _TIMM_CONVNEXT,
    "convnextv2_atto": _TIMM_CONVNEXT,
    "deit_tiny_distilled_patch16_224": _TIMM_VIT,
    "efficientnet_b0": {"num_classes": 5},
    "eva02_tiny_patch14_224": _TIMM_VIT | {"embed_dim": 24, "img_size": 28, "patch_size": 14},
    "maxvit_pico_rw_256": {"embed_dim": (32,) * 4, "depths": (1,) * 4, "stem_width": 8, "num_classes": 5},
    "mixer_s32_224": {"img_size": 32, "num_classes": 5},
    "mobilevit_xxs": {"num_classes": 5},
    "naflexvit_base_patch16_gap": {"depth": 2, "embed_dim": 8, "num_heads": 2, "num_classes": 5},
    "regnetx_002": {"num_classes": 5},
    "resnet10t": {"num_classes": 5},
    "swin_tiny_patch4_window7_224": _TIMM_SWIN | {"img_size": 56},
    "swinv2_tiny_window8_256": _TIMM_SWIN | {"img_size": 64},
    "vit_tiny_patch16_224": _TIMM_VIT | {"init_values": 1e-5, "reg_tokens": 2, "qk_norm": True},
    "xcit_nano_12_p16_224": {"depth": 2, "embed_dim": 8, "num_heads": 2, "num_classes": 5},
}

# By a name in torchvision.models: what it is called with.
TORCHVISION: dict[str, dict[str, Any]] = {
    "DenseNet": {"growth_rate": 4, "block_config": (2, 2), "num_init_features": 8, "num_classes": 5},
    "MaxVit": {
        "input_size": (64, 64),
        "stem_channels": 8,
        "partition_size": 2,
        "block_channels": [8, 8],
        "block_layers": [1, 1],
        "head_dim": 4,
        "stochastic_depth_prob": 0.2,
        "num_classes": 5,
    },
    "VisionTransformer": {
        "image_size": 8,
        "patch_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 12,
        "representation_size": 6,
    },
    "efficientnet_b0": {"num_classes": 5},
    "googlenet": {"num_classes": 5, "init_weights": True},
    "mnasnet0_5": {"num_classes": 5},
    "mobilenet_v2": {"num_classes": 5, "width_mult": 0.25},
    "mobilenet_v3_small": {"num_classes": 5, "width_mult": 0.5},
    "optical_flow.raft_small": {},
    "regnet_x_400mf": {"num_classes": 5},
    "resnet18": {"num_classes": 5, "zero_init_residual": True},
    "segmentation.lraspp_mobilenet_v3_large": {"weights": None, "weights_backbone": None, "num_classes": 3},
    "shufflenet_v2_x0_5": {"num_classes": 5},
    "squeezenet1_1": {"num_classes": 5},
    "swin_transformer.SwinTransformer": {
        "patch_size": [4, 4],
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": [7, 7],
        "num_classes": 5,
    },
    "video.r3d_18": {"num_classes": 5},
}


def of_transformers(name: str, **more: Any) -> Build:
    """Return what makes the class; with more arguments, as `from_config` makes it."""
    kind = getattr(library("transformers"), name)
    config = kind.config_class(**TRANSFORMERS[name])
    return partial(kind._from_config, config, **more) if more else partial(kind, config)


def of_timm(name: str, **more: Any) -> Build:
    return partial(library("timm").create_model, name, **TIMM[name] | more)


def of_torchvision(name: str) -> Build:
    *modules, last = name.split(".")
    library("torchvision")
    return partial(getattr(library(".".join(["torchvision.models", *modules])), last), **TORCHVISION[name])


def convnext_of_torchvision() -> Build:
    convnext = library("torchvision.models.convnext")
    blocks = [convnext.CNBlockConfig(4, 8, 1), convnext.CNBlockConfig(8, None, 1)]
    return partial(convnext.ConvNeXt, blocks, num_classes=5)
