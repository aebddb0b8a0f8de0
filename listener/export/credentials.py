"""Credentials of Amazon's files, which obstore does not read. What stands in the environment, or what the machine or
pod is, it finds by itself, as for the other clouds.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

#: The file is read anew so often.
_FRESH = timedelta(minutes=2)

#: With one of these in the environment the files do not count.
_BEFORE_FILES = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


def of_aws(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what of ~/.aws (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, AWS_PROFILE) is to be told to obstore."""
    env = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or _section(_config_of(env), env).get("region")
    if region:
        given["region"] = region
    if not any(env.get(name) for name in _BEFORE_FILES) and "aws_access_key_id" in _section(_keys_of(env), env):
        given["credential_provider"] = lambda: _fresh(env)
    return given


def _fresh(env: Mapping[str, str]) -> dict[str, Any]:
    keys = _section(_keys_of(env), env)
    return {
        "access_key_id": keys.get("aws_access_key_id", ""),
        "secret_access_key": keys.get("aws_secret_access_key", ""),
        "token": keys.get("aws_session_token"),
        "expires_at": datetime.now(UTC) + _FRESH,
    }


def _keys_of(env: Mapping[str, str]) -> str:
    return env.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(env.get("HOME", ""), ".aws/credentials")


def _config_of(env: Mapping[str, str]) -> str:
    return env.get("AWS_CONFIG_FILE") or os.path.join(env.get("HOME", ""), ".aws/config")


def _section(path: str, env: Mapping[str, str]) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    profile = env.get("AWS_PROFILE") or "default"
    name = next((one for one in (profile, f"profile {profile}") if parser.has_section(one)), "")
    return dict(parser[name]) if name else {}
