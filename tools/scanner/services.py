"""The keys of other services, by their shapes."""

from __future__ import annotations

from .checks import (
    ends_random,
    is_bearer_jwt,
    is_github_token,
    is_not_a_word,
    is_random_tail,
    is_varied,
)
from .token_rule import TokenRule, token

_GITHUB = ("ghp", "gho", "ghu", "ghs", "ghr")

SERVICE_TOKENS: tuple[TokenRule, ...] = (
    *(
        token(
            "aws-access-key-id", "AWS access key id", f"{kind}[A-Z2-7]{{16}}", check=is_varied
        )
        for kind in ("AKIA", "ASIA")
    ),
    *(
        token("github-token", "GitHub token", f"{kind}_[A-Za-z0-9]{{36}}", check=is_github_token)
        for kind in _GITHUB
    ),
    token(
        "github-token",
        "GitHub App installation token",
        r"ghs_\d{1,12}_eyJ[\w-]{10,600}\.[\w-]{10,2000}\.[\w-]{20,1000}",
        fixed=False,
    ),
    token(
        "github-fine-grained-token",
        "GitHub fine-grained token",
        "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    ),
    token("gitlab-token", "GitLab token", r"glpat-[\w-]{27,300}\.[0-9a-z]{2}\.[0-9a-z]{9}"),
    token("gitlab-token", "GitLab token", r"glpat-[\w-]{20}", check=is_not_a_word),
    *(
        token(
            "gitlab-token",
            "GitLab token of another kind",
            rf"{kind}-[\w-]{{20,64}}",
            fixed=False,
            check=is_not_a_word,
        )
        for kind in ("gldt", "glrt", "glptt", "glsoat", "glcbt", "glft", "glagent", "gloas")
    ),
    token("npm-token", "npm token", "npm_[A-Za-z0-9]{36}", check=is_random_tail),
    token(
        "pypi-token",
        "PyPI token",
        r"pypi-AgE(?:IcHlwaS5vcmc|NdGVzdC5weXBpLm9yZw)[\w-]{50,1000}",
        anchor="pypi-AgE",
        fixed=False,
    ),
    token("slack-token", "Slack token", r"xox[abeoprs]-(?:\d{1,14}-){1,4}[A-Za-z0-9]{10,64}",
          anchor="xox", prefix="", check=is_not_a_word),
    token("slack-token", "Slack token", r"xox[abeoprs]-[A-Za-z0-9.-]{24,250}",
          anchor="xox", prefix="", check=is_not_a_word),
    token("slack-token", "Slack app token", r"xapp-\d-[A-Z0-9]{8,14}-\d{8,16}-[A-Za-z0-9]{20,80}"),
    token(
        "slack-webhook",
        "Slack webhook",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Z0-9]{8,12}/[A-Z0-9]{8,14}/[\w/]{20,60}",
        anchor="hooks.slack.com/",
        fixed=False,
        check=ends_random,
    ),
    token("stripe-secret-key", "Stripe secret key", "sk_live_[A-Za-z0-9]{20,120}",
          check=is_not_a_word),
    token("stripe-secret-key", "Stripe restricted key", "rk_live_[A-Za-z0-9]{20,120}",
          check=is_not_a_word),
    token("stripe-webhook-secret", "Stripe webhook secret", "whsec_[A-Za-z0-9+/]{32,80}={0,2}",
          check=is_not_a_word),
    token("sendgrid-api-key", "SendGrid API key", r"SG\.[\w-]{22}\.[\w-]{43}", anchor="SG.",
          prefix="SG.", check=is_not_a_word),
    token("telegram-bot-token", "Telegram bot token", r"(?<!\d)\d{7,12}:AA[\w-]{33}",
          anchor=":AA", before=12, prefix="", check=is_not_a_word),
    *(
        token("vault-token", "Vault token", rf"{kind}\.[\w-]{{24,300}}", anchor=f"{kind}.",
              fixed=False, check=is_not_a_word)
        for kind in ("hvs", "hvb", "hvr")
    ),
    token(
        "jwt",
        "JSON Web Token",
        r"eyJ[\w-]{10,4000}\.[\w-]{2,16000}\.[\w-]{16,2000}(?:\.[\w-]{0,16000}){0,2}",
        anchor="eyJ",
        prefix="",
        fixed=False,
        confidence=0.85,
        check=is_bearer_jwt,
    ),
    *(
        token("digitalocean-token", "DigitalOcean token", f"{kind}_v1_[0-9a-f]{{64}}")
        for kind in ("dop", "doo", "dor")
    ),
    token("databricks-token", "Databricks token", r"dapi[0-9a-f]{32}(?:-\d)?",
          check=is_not_a_word),
    token("shopify-token", "Shopify token", "shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", anchor="shp",
          prefix="", check=is_not_a_word),
    token("docker-token", "Docker Hub token", r"dckr_(?:pat|oat)_[\w-]{27,36}", anchor="dckr_"),
    token("atlassian-token", "Atlassian token", r"ATATT3[\w=-]{80,250}", fixed=False),
    token("grafana-token", "Grafana token", "glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}"),
    token("grafana-token", "Grafana Cloud token", "glc_eyJ[A-Za-z0-9+/=]{40,400}", fixed=False),
    token("postman-api-key", "Postman API key", "PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    token("newrelic-api-key", "New Relic API key", "NRAK-[A-Z0-9]{27}"),
    token("linear-api-key", "Linear API key", "lin_api_[A-Za-z0-9]{40}"),
    token("notion-token", "Notion token", "ntn_[A-Za-z0-9]{40,50}", check=is_not_a_word),
    token("figma-token", "Figma token", r"figd_[\w-]{38,44}", check=is_not_a_word),
    token("sentry-token", "Sentry token", r"sntry[su]_[\w+/=-]{60,400}", anchor="sntry", prefix="",
          fixed=False),
    token("doppler-token", "Doppler token", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.]{40,60}",
          anchor="dp.", prefix="dp.", fixed=False, check=is_not_a_word),
    token("pulumi-token", "Pulumi token", "pul-[0-9a-f]{40}"),
    token("supabase-token", "Supabase token", "sbp_[0-9a-f]{40}"),
    token("supabase-token", "Supabase secret key", r"sb_secret_[\w-]{24,60}",
          check=is_not_a_word),
    token("rubygems-token", "RubyGems token", "rubygems_[0-9a-f]{48}"),
    token("terraform-token", "Terraform Cloud token", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,90}",
          anchor=".atlasv1.", before=14, prefix="", fixed=False),
    token("tailscale-key", "Tailscale key", r"tskey-(?:auth|api|client|scim|webhook)-[\w-]{20,80}",
          anchor="tskey-", fixed=False, check=is_not_a_word),
    token("discord-webhook", "Discord webhook",
          r"discord(?:app)?\.com/api/webhooks/\d{16,20}/[\w-]{60,80}", anchor="/api/webhooks/",
          before=16, prefix="", fixed=False),
    token("mailchimp-api-key", "Mailchimp API key", r"[0-9a-f]{32}-us\d{1,2}", anchor="-us",
          before=32, prefix="", check=is_not_a_word),
    token("mailgun-api-key", "Mailgun API key", r"key-[0-9a-f]{32}", confidence=0.8,
          check=is_not_a_word),
    token("age-secret-key", "age secret key", "AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    token("onepassword-token", "1Password service account token", r"ops_eyJ[\w+/=-]{200,2000}",
          fixed=False),
    token("planetscale-token", "PlanetScale token", r"pscale_(?:tkn|pw|oauth)_[\w.=-]{32,64}",
          anchor="pscale_", fixed=False, check=is_not_a_word),
    token("discord-bot-token", "Discord bot token",
          r"[MNO][A-Za-z0-9]{23,27}\.[\w-]{6}\.[\w-]{27,40}", anchor=".G", before=30, prefix="",
          check=is_not_a_word),
)  # fmt: skip
