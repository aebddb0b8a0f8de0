from __future__ import annotations

from pathlib import Path

from listener.export import credentials


def test_files_are_read_where_the_environment_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    keys, config = tmp_path / ".aws/credentials", tmp_path / ".aws/config"
    keys.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n[other]\naws_access_key_id = C\n")
    config.write_text("[default]\nregion = eu-central-1\n[profile other]\nregion = us-west-2\n")
    home = {"HOME": str(tmp_path)}
    found = credentials.of_aws(home)
    assert found["region"] == "eu-central-1"
    given = found["credential_provider"]()
    assert (given["access_key_id"], given["secret_access_key"], given["token"]) == ("A", "B", None)
    keys.write_text(keys.read_text().replace("= A", "= Z"))
    assert found["credential_provider"]()["access_key_id"] == "Z", "a file that changed is read again"
    other = credentials.of_aws({**home, "AWS_PROFILE": "other"})
    assert (other["region"], other["credential_provider"]()["access_key_id"]) == ("us-west-2", "C")
    assert credentials.of_aws({**home, "AWS_ACCESS_KEY_ID": "X", "AWS_REGION": "r"}) == {"region": "r"}
    assert credentials.of_aws({"HOME": str(tmp_path / "absent")}) == {}
    keys.write_text("no ini")
    config.write_text("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"))
    assert credentials.of_aws(home) == {}
