"""The keys of language model providers, by their shapes."""

from __future__ import annotations

from .checks import is_not_a_word, is_random_tail
from .token_rule import TokenRule, token

_MARKER = "T3BlbkFJ"

LLM_TOKENS: tuple[TokenRule, ...] = (
    token("openai-api-key", "OpenAI API key", f"sk-[A-Za-z0-9]{{20}}{_MARKER}[A-Za-z0-9]{{20}}"),
    token(
        "openai-api-key",
        "OpenAI API key of a project, service account or administrator",
        rf"sk-(?:proj|svcacct|admin|service|None)-[\w-]{{20,130}}{_MARKER}[\w-]{{20,130}}",
        fixed=False,
    ),
    token(
        "openai-api-key",
        "OpenAI API key, without its usual marker",
        r"sk-(?:proj|svcacct|admin)-[\w-]{40,300}",
        fixed=False,
        confidence=0.7,
        check=is_not_a_word,
    ),
    token(
        "anthropic-api-key",
        "Anthropic API key or token",
        r"sk-ant-[a-z]{2,8}\d{2}-[\w-]{80,130}",
        anchor="sk-ant-",
        fixed=False,
        check=is_not_a_word,
    ),
    token("openrouter-api-key", "OpenRouter API key", "sk-or-v1-[0-9a-f]{64}"),
    token(
        "langfuse-secret-key",
        "Langfuse secret key",
        "sk-lf-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ),
    token("helicone-api-key", "Helicone API key", r"sk-helicone-[a-z0-9-]{27,60}", fixed=False),
    token(
        "llm-api-key",
        "API key in the form that DeepSeek, DashScope and others use",
        "sk-[0-9a-f]{32}",
        confidence=0.8,
        check=is_not_a_word,
    ),
    token(
        "llm-api-key",
        "API key in OpenAI's older form, which other providers took over",
        "sk-[A-Za-z0-9]{40,64}",
        confidence=0.8,
        check=is_not_a_word,
    ),
    token("google-api-key", "Google API key", r"AIza[\w-]{35}", check=is_not_a_word),
    token(
        "gemini-api-key", "Gemini API key", r"AQ\.Ab8RN6[\w-]{40,60}", anchor="Ab8RN6", before=3,
        prefix="AQ.Ab8RN6", fixed=False,
    ),
    token("google-oauth-secret", "Google OAuth client secret", r"GOCSPX-[\w-]{28}"),
    token("google-oauth-token", "Google OAuth access token", r"ya29\.[\w-]{40,400}", fixed=False),
    token(
        "azure-openai-key",
        "Azure AI key of 84 characters",
        r"[A-Za-z0-9]{52}JQQJ9[9DH][A-Za-z0-9][A-L][A-Za-z0-9]{16}[A-Za-z][A-Za-z0-9]{7}",
        anchor="JQQJ9",
        before=52,
        prefix="",
    ),
    token(
        "aws-bedrock-key", "Amazon Bedrock API key", "ABSK[A-Za-z0-9+/]{100,280}={0,2}", fixed=False
    ),
    token(
        "aws-bedrock-key",
        "Amazon Bedrock short-term API key",
        "bedrock-api-key-[A-Za-z0-9+/]{64,2000}={0,2}",
        fixed=False,
    ),
    token("huggingface-token", "Hugging Face token", "hf_[A-Za-z0-9]{34,40}"),
    token(
        "huggingface-token", "Hugging Face organisation token", "api_org_[A-Za-z0-9]{34}"
    ),
    token("groq-api-key", "Groq API key", "gsk_[A-Za-z0-9]{48,56}"),
    token("xai-api-key", "xAI API key", r"xai-[A-Za-z0-9_]{60,130}", check=is_not_a_word),
    token("perplexity-api-key", "Perplexity API key", "pplx-[A-Za-z0-9]{40,60}"),
    token("cerebras-api-key", "Cerebras API key", "csk-[a-z0-9]{40,60}"),
    token("nvidia-api-key", "NVIDIA API key", r"nvapi-[\w-]{56,80}", check=is_not_a_word),
    token("together-api-key", "Together API key", r"tgp_v1_[\w-]{43}"),
    token(
        "fireworks-api-key", "Fireworks API key", "fw_[A-Za-z0-9]{22,26}", confidence=0.85,
        check=is_random_tail,
    ),
    token(
        "replicate-api-token", "Replicate API token", "r8_[A-Za-z0-9]{37,40}", check=is_not_a_word
    ),
    token("pinecone-api-key", "Pinecone API key", "pcsk_[A-Za-z0-9]{4,8}_[A-Za-z0-9]{60,66}"),
    token("langsmith-api-key", "LangSmith API key", "lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    token("llamacloud-api-key", "LlamaCloud API key", "llx-[A-Za-z0-9]{44,52}"),
    token("tavily-api-key", "Tavily API key", "tvly-(?:dev-|prod-)?[A-Za-z0-9]{28,48}", fixed=False,
          check=is_not_a_word),
    token("jina-api-key", "Jina API key", r"jina_[\w-]{50,80}", check=is_not_a_word),
    token("wandb-api-key", "Weights & Biases API key", r"wandb_v1_[\w-]{60,120}", fixed=False),
    token("voyage-api-key", "Voyage API key", r"pa-[\w-]{43}", confidence=0.8,
          check=is_not_a_word),
    token("elevenlabs-api-key", "ElevenLabs API key", "sk_[0-9a-f]{48}", check=is_not_a_word),
    token("runpod-api-key", "RunPod API key", "rpa_[A-Z0-9]{36,50}[a-z0-9]{0,10}",
          check=is_not_a_word),
)  # fmt: skip
