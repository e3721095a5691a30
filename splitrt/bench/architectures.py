"""The zoo's list: networks that nobody here wrote, as classes of `transformers` at their smallest sizes.

Small as they are, all have the parts of the published network: its residuals, scales, windows, gates, biases of
position, ties and shared layers. Here are those that see; those that read or listen are in sequences.py.
"""

from __future__ import annotations

from typing import Any

from splitrt.bench.networks import ENCODER_DECODER, TOKENS, Architecture, vision
from splitrt.bench.sequences import LANGUAGE, SOUND

CLASSES: dict[str, Any] = {"num_labels": 10}
VIT: dict[str, Any] = CLASSES | TOKENS | {"image_size": 64, "patch_size": 16}
SCALED_VIT: dict[str, Any] = VIT | {
    "num_hidden_layers": 4,
    "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False,
}
PYRAMID: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
SWIN: dict[str, Any] = CLASSES | {"image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
HEADS: dict[str, Any] = {"num_attention_heads": [1, 2, 2, 4]}
BACKBONE = ("ResNetConfig", PYRAMID | {"embedding_size": 8, "layer_type": "basic"})
SCALES = ("ResNetConfig", BACKBONE[1] | {"out_features": ["stage1", "stage2", "stage3", "stage4"]})
DETR: dict[str, Any] = (
    CLASSES
    | ENCODER_DECODER
    | {
        "backbone_config": BACKBONE,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "num_queries": 6,
        "d_model": 32,
    }
)
REAL_TIME: dict[str, Any] = CLASSES | {
    "backbone_config": ("RTDetrResNetConfig", BACKBONE[1] | {"out_features": ["stage2", "stage3", "stage4"]}),
    "encoder_in_channels": [16, 24, 32],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "d_model": 32,
    "num_queries": 6,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
}
SQUARES = [[[3, 3]], [[3, 3], [1, 3]], [[3, 1]], [[3, 3]]]

VISION = {
    "resnet-basic": vision("ResNetForImageClassification", **BACKBONE[1], **CLASSES),
    "resnet-bottleneck": vision("ResNetForImageClassification", **PYRAMID, embedding_size=8, **CLASSES),
    "regnet": vision("RegNetForImageClassification", **PYRAMID, embedding_size=8, groups_width=4, **CLASSES),
    "mobilenet-v1": vision("MobileNetV1ForImageClassification", depth_multiplier=0.25, image_size=64, **CLASSES),
    "mobilenet-v2": vision("MobileNetV2ForImageClassification", depth_multiplier=0.35, image_size=64, **CLASSES),
    "mobilevit": vision(
        "MobileViTForImageClassification",
        image_size=64,
        hidden_sizes=[16, 20, 24],
        neck_hidden_sizes=[8, 8, 12, 16, 16, 20, 40],
        **CLASSES,
    ),
    "mobilevit-v2": vision(
        "MobileViTV2ForImageClassification",
        image_size=64,
        width_multiplier=0.25,
        n_attn_blocks=[1, 1, 1],
        base_attn_unit_dims=[32, 48, 64],
        **CLASSES,
    ),
    "efficientnet": vision(
        "EfficientNetForImageClassification",
        image_size=64,
        width_coefficient=0.3,
        depth_coefficient=0.5,
        hidden_dim=384,
        **CLASSES,
    ),
    "convnext": vision("ConvNextForImageClassification", **PYRAMID, **CLASSES),
    "convnext-v2": vision("ConvNextV2ForImageClassification", **PYRAMID, **CLASSES),
    "dinov3-convnext": vision("DINOv3ConvNextModel", **PYRAMID),
    "levit": vision(
        "LevitForImageClassification",
        image_size=64,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
        **CLASSES,
    ),
    "poolformer": vision("PoolFormerForImageClassification", **PYRAMID, **CLASSES),
    "swiftformer": vision(
        "SwiftFormerForImageClassification", depths=[1, 1, 1, 1], embed_dims=[8, 16, 24, 32], mlp_ratio=2, **CLASSES
    ),
    "hgnet-v2": vision(
        "HGNetV2ForImageClassification",
        **PYRAMID,
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 24],
        stage_mid_channels=[4, 8, 8, 12],
        stage_out_channels=[8, 16, 24, 32],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[2, 2, 2, 2],
        **CLASSES,
    ),
    "bit": vision("BitForImageClassification", **PYRAMID, embedding_size=8, num_groups=2, **CLASSES),
    "textnet": vision(
        "TextNetForImageClassification",
        stem_out_channels=8,
        hidden_sizes=[8, 8, 16, 24, 32],
        conv_layer_kernel_sizes=SQUARES,
        conv_layer_strides=[[2], [2, 1], [2], [2]],
        **CLASSES,
    ),
    "pp-lcnet": vision("PPLCNetForImageClassification", scale=0.25, class_expand=64, **CLASSES),
    "vit": vision("ViTForImageClassification", **VIT),
    "deit": vision("DeiTForImageClassificationWithTeacher", **VIT),
    "vit-msn": vision("ViTMSNForImageClassification", **VIT),
    "ijepa": vision("IJepaForImageClassification", **VIT),
    "beit": vision("BeitForImageClassification", **VIT, use_relative_position_bias=True),
    "beit-eager": vision(
        "BeitForImageClassification", **VIT, use_relative_position_bias=True, attn_implementation="eager"
    ),
    "data2vec-vision": vision("Data2VecVisionForImageClassification", **VIT, use_shared_relative_position_bias=True),
    "dinov2": vision("Dinov2ForImageClassification", **VIT),
    "dinov2-registers": vision("Dinov2WithRegistersForImageClassification", **VIT, use_swiglu_ffn=True),
    "dinov3-vit": vision("DINOv3ViTModel", **VIT, num_register_tokens=2),
    "vitdet": vision(
        "VitDetModel", **VIT, window_size=2, window_block_indices=[0], use_relative_position_embeddings=True
    ),
    "clip-vision": vision("CLIPVisionModel", **VIT),
    "siglip-vision": vision("SiglipVisionModel", **VIT),
    "aimv2-vision": vision("Aimv2VisionModel", **VIT),
    "swin": vision("SwinForImageClassification", **SWIN, window_size=4),
    "swin-v2": vision("Swinv2ForImageClassification", **SWIN, window_size=4),
    "swin2sr": vision(
        "Swin2SRForImageSuperResolution",
        16,
        **(SWIN | {"image_size": 16, "num_heads": [2, 2]}),
        window_size=4,
    ),
    "cvt": vision("CvtForImageClassification", embed_dim=[8, 16, 32], num_heads=[1, 2, 4], depth=[1, 2, 3], **CLASSES),
    "pvt": vision("PvtForImageClassification", image_size=64, **PYRAMID, **HEADS, **CLASSES),
    "pvt-v2": vision("PvtV2ForImageClassification", image_size=64, **PYRAMID, **HEADS, **CLASSES),
    "focalnet": vision("FocalNetForImageClassification", image_size=64, embed_dim=8, **PYRAMID, **CLASSES),
    "hiera": vision(
        "HieraForImageClassification",
        image_size=[64, 64],
        embed_dim=8,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 4],
        **CLASSES,
    ),
    "segformer": vision("SegformerForSemanticSegmentation", **PYRAMID, **HEADS, decoder_hidden_size=32, **CLASSES),
    "glpn": vision("GLPNForDepthEstimation", **PYRAMID, **HEADS, decoder_hidden_size=16),
    "dpt": vision(
        "DPTForDepthEstimation",
        **(VIT | {"num_hidden_layers": 4}),
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
    ),
    "upernet": vision(
        "UperNetForSemanticSegmentation",
        backbone_config=SCALES,
        hidden_size=16,
        auxiliary_channels=16,
        **CLASSES,
    ),
    "yolos": vision("YolosForObjectDetection", **(VIT | {"image_size": [64, 64]}), num_detection_tokens=6),
    "detr": vision("DetrForObjectDetection", **DETR),
    "conditional-detr": vision("ConditionalDetrForObjectDetection", **DETR),
    "table-transformer": vision("TableTransformerForObjectDetection", **DETR),
    "deformable-detr": vision("DeformableDetrForObjectDetection", 128, **DETR, num_feature_levels=2),
    "rt-detr": vision("RTDetrForObjectDetection", **REAL_TIME),
    "sam-vision": vision("SamVisionModel", **VIT, window_size=2, global_attn_indexes=[1], output_channels=16),
    "depth-anything": vision(
        "DepthAnythingForDepthEstimation",
        backbone_config=(
            "Dinov2Config",
            VIT | {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
        ),
        patch_size=16,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
    ),
    "superpoint": vision("SuperPointForKeypointDetection"),
}
ARCHITECTURES: dict[str, Architecture] = VISION | LANGUAGE | SOUND
