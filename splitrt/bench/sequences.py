"""The zoo's networks that read or listen: encoders, decoders of language models, one state space, speech."""

from __future__ import annotations

from typing import Any

from splitrt.bench.networks import ENCODER_DECODER, TOKENS, VOCABULARY, Architecture, language

TEXT: dict[str, Any] = TOKENS | {"max_position_embeddings": 64}
END: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHIFTED: dict[str, Any] = {"decoder_start_token_id": 1}
GROUPED: dict[str, Any] = {"num_key_value_heads": 2}
SPEECH: dict[str, Any] = TOKENS | {
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 4, 4],
    "conv_kernel": [10, 4, 4],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def decoder(model: str, **sizes: Any) -> Architecture:
    return language(model, **(TEXT | END | {"use_cache": False} | sizes))


LANGUAGE = {
    "bert": language("BertForMaskedLM", **TEXT),
    "distilbert": language("DistilBertForMaskedLM", dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "roberta": language("RobertaForMaskedLM", **TEXT),
    "albert": language("AlbertForMaskedLM", **TEXT, embedding_size=16),
    "electra": language("ElectraForPreTraining", **TEXT, embedding_size=16),
    "mobilebert": language(
        "MobileBertForMaskedLM", **TEXT, embedding_size=32, intra_bottleneck_size=16, num_feedforward_networks=2
    ),
    "mpnet": language("MPNetForMaskedLM", **TEXT),
    "fnet": language("FNetForMaskedLM", **TEXT),
    "squeezebert": language("SqueezeBertForMaskedLM", **TEXT, embedding_size=32),
    "roformer": language("RoFormerForMaskedLM", **TEXT, embedding_size=32),
    "convbert": language("ConvBertForMaskedLM", **TEXT, embedding_size=16, conv_kernel_size=3),
    "deberta-v2": language("DebertaV2ForMaskedLM", **TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "modernbert": language("ModernBertForMaskedLM", **TEXT, **END, local_attention=8),
    "t5-encoder": language("T5EncoderModel", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
    "bart": language(
        "BartModel", d_model=32, **ENCODER_DECODER, max_position_embeddings=64, use_cache=False, **END, **SHIFTED
    ),
    "xlnet": language("XLNetModel", d_model=32, n_layer=2, n_head=4, d_inner=64),
    "clip-text": language("CLIPTextModel", **TEXT, **END),
    "gpt2": language("GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=4, n_positions=64, use_cache=False, **END),
    "gpt-neo": decoder(
        "GPTNeoForCausalLM", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=8
    ),
    "gpt-neox": decoder("GPTNeoXForCausalLM"),
    "opt": decoder("OPTForCausalLM", ffn_dim=64, word_embed_proj_dim=32),
    "bloom": decoder("BloomForCausalLM", n_layer=2, n_head=4),
    "falcon": decoder("FalconForCausalLM"),
    "llama": decoder("LlamaForCausalLM"),
    "mobile-llm": decoder("LlamaForCausalLM", num_hidden_layers=6, **GROUPED, tie_word_embeddings=True),
    "smollm3": decoder("SmolLM3ForCausalLM", **GROUPED),
    "qwen2": decoder("Qwen2ForCausalLM", **GROUPED),
    "qwen3": decoder("Qwen3ForCausalLM", **GROUPED, head_dim=8),
    "mistral": decoder("MistralForCausalLM", **GROUPED, head_dim=8, sliding_window=8),
    "gemma": decoder("GemmaForCausalLM", **GROUPED, head_dim=8),
    "gemma2": decoder("Gemma2ForCausalLM", **GROUPED, head_dim=8, sliding_window=8),
    "phi": decoder("PhiForCausalLM"),
    "phi3": decoder("Phi3ForCausalLM", **GROUPED),
    "stablelm": decoder("StableLmForCausalLM", **GROUPED),
    "olmo2": decoder("Olmo2ForCausalLM", **GROUPED),
    "granite": decoder("GraniteForCausalLM", **GROUPED),
    "cohere": decoder("CohereForCausalLM", **GROUPED),
    "gemma3": decoder("Gemma3ForCausalLM", **GROUPED, head_dim=8, sliding_window=8),
    "lfm2": decoder("Lfm2ForCausalLM", **GROUPED, layer_types=["conv", "full_attention"]),
    "codegen": decoder("CodeGenForCausalLM", n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "mixtral": decoder("MixtralForCausalLM", **GROUPED, num_local_experts=4),
    "mixtral-batched": decoder(
        "MixtralForCausalLM", **GROUPED, num_local_experts=4, experts_implementation="batched_mm"
    ),
    "mamba": decoder("MambaForCausalLM", state_size=4),
}
SOUND = {
    "whisper-encoder": Architecture(
        model="WhisperModel",
        part="encoder",
        shape=(1, 16, 64),
        sizes=ENCODER_DECODER
        | {"vocab_size": VOCABULARY, "num_mel_bins": 16, "d_model": 32, "max_source_positions": 32}
        | END
        | SHIFTED,
    ),
    "wav2vec2": Architecture(model="Wav2Vec2ForCTC", shape=(1, 3200), sizes=SPEECH),
    "hubert": Architecture(model="HubertForCTC", shape=(1, 3200), sizes=SPEECH),
    "wavlm": Architecture(model="WavLMModel", shape=(1, 3200), sizes=SPEECH),
    "ast": Architecture(
        model="ASTForAudioClassification",
        shape=(1, 64, 32),
        sizes=TOKENS | {"max_length": 64, "num_mel_bins": 32},
    ),
}
