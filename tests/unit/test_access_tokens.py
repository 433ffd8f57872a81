"""Tokens: what is accepted, and the attacks that are not."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from celeriac.access.api_key import check_secret, make_key, split_key
from celeriac.access.authenticator import Authenticator
from celeriac.access.principal import Principal, Scope
from celeriac.access.secret_file import read_or_make_secret
from celeriac.access.tokens import TokenVerifier
from celeriac.errors import AuthenticationError, SettingsError
from celeriac.settings import AccessSettings, Settings, load_settings
from tests.kit.tokens import token_of

SECRET = "0123456789abcdef0123456789abcdef"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def settings_of(**access: Any) -> Settings:
    return Settings(access=AccessSettings(**{"jwt_secret": SECRET, **access}))


def verifier_of(settings: Settings) -> TokenVerifier:
    return TokenVerifier(settings.access, data_dir=settings.data_dir)


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    claims = {"sub": "7", "scope": "read", "exp": time.time() + 3600, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def key_set(folder: Path) -> str:
    documents = [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "r1", "use": "sig"},
        {**jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "e1", "use": "sig"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "o1"},
    ]
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": documents}))
    return str(path)


async def refusal(settings: Settings, text: str) -> str:
    with pytest.raises(AuthenticationError) as caught:
        await verifier_of(settings).verify(text)
    assert not text or text not in str(caught.value)
    return str(caught.value)


async def test_a_minted_token_names_its_user_and_scopes() -> None:
    settings = settings_of(audience="celeriac", issuer="us")
    minted = token_of(settings, user_id="42", scopes=[Scope.READ, Scope.SUBMIT], ttl_s=60)
    principal = await verifier_of(settings).verify(minted)
    assert (principal.user_id, principal.scopes) == ("42", {Scope.READ, Scope.SUBMIT})
    assert principal.sees("42")
    assert not principal.sees("43")
    assert not principal.sees(None)


async def test_without_a_secret_the_data_folder_holds_one_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    minted = token_of(settings, user_id="42", scopes=[])
    assert (await verifier_of(settings).verify(minted)).user_id == "42"
    file = settings.data_dir / "token_secret"
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_or_make_secret(settings.data_dir) == file.read_text().strip()
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        token_of(settings, user_id="42", scopes=[])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: "", "not a valid token"),
        (lambda: "a.b.c", "not a valid token"),
        (lambda: token()[:-3], "signature"),
        (lambda: token().rpartition(".")[0] + ".", "signature"),
        (lambda: token(SECRET[::-1]), "signature"),
        (lambda: token(exp=time.time() - 1), "expired"),
        (lambda: token(exp=None, iat=time.time() - 90_000), "expired"),
        (lambda: token(nbf=time.time() + 3000), "not valid yet"),
        (lambda: token(sub=None), "lacks the claim sub"),
        (lambda: token(sub=""), "a user id"),
        (lambda: token(sub="a\nb"), "a user id"),
        (lambda: f"{part({'alg': 'none'})}.{part({'sub': '7'})}.", "has no key"),
        (lambda: f"{part({'alg': 'None'})}.{part({'sub': '7'})}.", "has no key"),
        (lambda: f"{part({'alg': ['HS256']})}.{part({'sub': '7'})}.", "no key"),
        (lambda: token(algorithm="HS512"), "has no key"),
        (lambda: token(RSA_KEY, "RS256"), "has no key"),
        (lambda: "x" * 10_000, "longer than 8192"),
    ],
)
async def test_a_token_that_is_not_good_is_refused_with_the_reason(make: Callable[[], str], reason: str) -> None:
    """Each token is made in the test: made while tests are collected, it would be old by the time it is used."""
    assert reason in await refusal(settings_of(), make())


@pytest.mark.parametrize(
    ("claims", "by_default", "within_10_s"),
    [
        ({"iat": 5}, "", ""),
        ({"iat": 3000}, "", ""),
        ({"nbf": -1}, "", ""),
        ({"nbf": 5}, "not valid yet", ""),
        ({"nbf": 60}, "not valid yet", "not valid yet"),
        ({"exp": -5}, "expired", ""),
        ({"exp": -60}, "expired", "expired"),
    ],
)
async def test_the_leeway_is_for_an_issuer_whose_clock_differs(
    claims: dict[str, int], by_default: str, within_10_s: str
) -> None:
    text = token(**{name: int(time.time()) + seconds for name, seconds in claims.items()})
    for access, reason in (({}, by_default), ({"leeway": 10}, within_10_s)):
        if reason:
            assert reason in await refusal(settings_of(**access), text)
        else:
            assert (await verifier_of(settings_of(**access)).verify(text)).user_id == "7"


async def test_audience_issuer_and_expiry_are_demanded_where_they_are_set() -> None:
    settings = settings_of(audience="us", issuer="them", require_expiry=True)
    assert "audience" in await refusal(settings, token(aud="others", iss="them"))
    assert "issuer" in await refusal(settings, token(aud="us", iss="others"))
    assert "exp" in await refusal(settings, token(aud="us", iss="them", exp=None))
    assert (await verifier_of(settings).verify(token(aud=["us", "x"], iss="them"))).user_id == "7"


async def test_a_token_without_scopes_has_the_default_ones() -> None:
    assert (await verifier_of(settings_of()).verify(token(scope=None))).scopes == frozenset()
    given = settings_of(default_scopes=["read"])
    assert (await verifier_of(given).verify(token(scope=None))).scopes == {Scope.READ}
    assert (await verifier_of(given).verify(token(scope=""))).scopes == frozenset()


async def test_an_issuers_tokens_are_verified_with_its_public_keys(tmp_path: Path) -> None:
    settings = settings_of(jwt_secret=None, jwks=key_set(tmp_path))
    verifier = verifier_of(settings)
    assert (await verifier.verify(token(RSA_KEY, "RS256", kid="r1"))).user_id == "7"
    assert (await verifier.verify(token(EC_KEY, "ES256", kid="e1"))).user_id == "7"
    assert (await verifier.verify(token(RSA_KEY, "RS256"))).user_id == "7", "the only key that fits needs no name"
    assert "key set" in await refusal(settings, token(RSA_KEY, "RS256", kid="e1"))
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert "signature" in await refusal(settings, token(stranger, "RS256", kid="r1"))
    with pytest.raises(SettingsError, match="issuer"):
        token_of(settings, user_id="7", scopes=[])


async def test_a_public_key_is_never_taken_for_a_secret(tmp_path: Path) -> None:
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'kid': 'r1'})}.{part({'sub': '7', 'scope': 'admin'})}"
    forged = f"{signed}.{base64.urlsafe_b64encode(_hmac(signed, pem)).rstrip(bytes([61])).decode()}"
    assert "has no key" in await refusal(settings_of(jwt_secret=None, jwks=key_set(tmp_path)), forged)
    assert "signature" in await refusal(settings_of(jwks=key_set(tmp_path)), forged)
    from_the_set = token("secret" * 8, kid="o1")
    assert "has no key" in await refusal(settings_of(jwt_secret=None, jwks=key_set(tmp_path)), from_the_set)


def _hmac(text: str, key: bytes) -> bytes:
    import hashlib
    import hmac

    return hmac.digest(key, text.encode(), hashlib.sha256)


async def test_keys_that_the_issuer_adds_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.access.key_set._UNKNOWN_PAUSE_S", 0.0)
    path = tmp_path / "keys.json"
    path.write_text('{"keys": []}')
    settings = settings_of(jwt_secret=None, jwks=str(path))
    verifier = verifier_of(settings)
    with pytest.raises(AuthenticationError):
        await verifier.verify(token(EC_KEY, "ES256", kid="e1"))
    key_set(tmp_path)
    assert (await verifier.verify(token(EC_KEY, "ES256", kid="e1"))).user_id == "7"
    path.unlink()
    assert (await verifier.verify(token(EC_KEY, "ES256", kid="e1"))).user_id == "7", "keys stay while the set is away"


def test_keys_from_another_machine_need_https() -> None:
    with pytest.raises(SettingsError, match="https"):
        verifier_of(settings_of(jwks="http://issuer.example/keys"))


def test_an_api_key_is_known_by_its_secret_only() -> None:
    kept, text = make_key("ci", user_id="7", scopes=[Scope.READ])
    key_id, secret = split_key(text)
    assert key_id == kept.key_id
    assert secret not in repr(kept)
    assert check_secret(kept, secret).principal().scopes == {Scope.READ}
    for other in (None, make_key("other", user_id="7", scopes=[])[0]):
        with pytest.raises(AuthenticationError):
            check_secret(other, secret)
    with pytest.raises(AuthenticationError, match="expired"):
        make_key("old", user_id="7", scopes=[], ttl_s=-1)[0].principal()
    for broken in ("cel_", text[:-1], text + "x", text.upper()):
        with pytest.raises(AuthenticationError):
            split_key(broken)


async def test_what_was_verified_is_remembered_within_bounds() -> None:
    settings = settings_of(cache_size=3)

    async def no_key(key_id: str) -> None:
        return None

    authenticator = Authenticator(settings.access, data_dir=settings.data_dir, find_key=no_key)
    tokens = [token(sub=str(number)) for number in range(5)]
    for text in tokens:
        await authenticator.principal(text)
    assert [authenticator.remembered(text) is not None for text in tokens] == [False, False, True, True, True]
    brief = token(exp=time.time() + 9)
    assert isinstance(await authenticator.principal(brief), Principal)
    authenticator._verified = {key: (who, min(until, 0.0)) for key, (who, until) in authenticator._verified.items()}
    assert authenticator.remembered(brief) is None, "not beyond its time"


def test_a_secret_from_the_environment_is_text_and_turns_authentication_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environ={"JWT_SECRET": "0123456789"})
    assert settings.access.jwt_secret is not None
    assert settings.access.jwt_secret.get_secret_value() == "0123456789"
    assert settings.access.on
    assert "0123456789" not in repr(settings)
    assert not load_settings(environ={"JWT_SECRET": ""}).access.on
    assert not load_settings(environ={"JWT_SECRET": "x", "CELERIAC_ACCESS__ENABLED": "false"}).access.on
