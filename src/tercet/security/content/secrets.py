"""Keys and passwords in a text: things with a known beginning, and values that are called a password.

What has neither, a random string for example, is not found: it looks like any other identifier.
"""

from __future__ import annotations

from tercet.security.content.patterns import Pattern

__all__ = ["SECRET_PATTERNS"]


def _key(name: str, regex: str, *prefixes: str, reach: int = 512) -> Pattern:
    return Pattern(name, rf"\b{regex}", "secret", reach=reach, prefixes=prefixes, one_word=True)


SECRET_PATTERNS: tuple[Pattern, ...] = (
    _key("openai", r"sk-[A-Za-z0-9_-]{20,256}", "sk-"),
    _key("tercet", r"tct_[0-9a-f]{12}_[0-9a-f]{48}\b", "tct_"),
    _key("aws", r"(?:AKIA|ASIA)[A-Z0-9]{16}\b", "AKIA", "ASIA"),
    _key("github", r"gh[pousr]_[A-Za-z0-9]{36,255}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    _key("github_fine_grained", r"github_pat_[A-Za-z0-9_]{22,255}", "github_pat_"),
    _key("gitlab", r"glpat-[A-Za-z0-9_-]{20,64}", "glpat-"),
    _key("google", r"AIza[A-Za-z0-9_-]{35}", "AIza"),
    _key("slack", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}", "xox"),
    _key("stripe", r"[rs]k_live_[A-Za-z0-9]{16,250}", "rk_live_", "sk_live_"),
    _key("hugging_face", r"hf_[A-Za-z0-9]{30,64}", "hf_"),
    _key("npm", r"npm_[A-Za-z0-9]{36}", "npm_"),
    _key("json_web_token", r"eyJ[\w-]{10,900}\.[\w-]{10,900}\.[\w-]{10,900}", "eyJ", reach=2_800),
    Pattern(
        "private_key",
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=:,\s-]{0,900}(?:[A-Za-z0-9+/=:,\s-]{0,900}"
        r"[A-Za-z0-9+/=:,\s-]{0,900}[A-Za-z0-9+/=:,\s-]{0,900})",
        "secret",
        reach=3_800,
        prefixes=("-----BEGIN",),
    ),
    Pattern(
        "password",
        r"(?i)\b(?:password|passwd|api[_-]?key|secret[_-]?key|access[_-]?token)[\"']?\s{0,3}[:=]\s{0,3}[\"']?"
        r"(?P<value>[^\s,;\"'<>{}\[\]\\]{4,100})",
        "secret",
        reach=140,
        prefixes=(
            *("password", "passwd", "apikey", "api_key", "api-key", "secretkey", "secret_key", "secret-key"),
            *("accesstoken", "access_token", "access-token"),
        ),
        ignores_case=True,
    ),
)
