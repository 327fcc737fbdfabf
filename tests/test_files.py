"""Files appear whole or not at all, and code digests see code only."""

import errno

import pytest

from poolae import files
from poolae.settings import UserError


@pytest.mark.fault("a write that breaks off", "the old file stays")
def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "file"
    with files.replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.fault("a full disk", "one sentence with file and free space")
def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    with pytest.raises(UserError) as caught, files.replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "file: No space left on device (" in str(caught.value) and "MiB free" in str(
        caught.value
    )


@pytest.mark.fault("a file that is read while another is written is missing", "it is named")
def test_what_is_missing_is_not_what_cannot_be_written(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="results.csv"),
        files.replacing(tmp_path / "README.md"),
    ):
        (tmp_path / "results.csv").read_text()


@pytest.mark.fault("a umask under which colleagues read", "they can read what is written")
def test_files_are_as_readable_as_the_umask_lets_them_be(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with files.replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"weights")
    assert (tmp_path / "file").stat().st_mode == plain.stat().st_mode


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "build").write_text("")
    with (
        pytest.raises(UserError, match="Cannot write .*build"),
        files.replacing(tmp_path / "build" / "x"),
    ):
        pass


def test_comments_and_docstrings_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    module = tmp_path / "m.py"
    digests = []
    for text in (
        "def f():\n    return 1\n",
        '"""Why."""\n# because\ndef f():\n    """One."""\n    return 1  # one\n',
        "def f():\n    return 2\n",
    ):
        module.write_text(text)
        digests.append(files.code_digest("m"))
    assert digests[0] == digests[1] != digests[2]


def test_a_module_that_computes_the_same_has_the_digest_of_before(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    module = tmp_path / "m.py"
    module.write_text("def f():\n    return 2\n")
    (before,) = files.module_digests("m").values()
    module.write_text("def f():\n    return 1 + 1\n")
    (after,) = files.module_digests("m").values()
    monkeypatch.setattr(files, "EQUAL", {after: before})
    assert before != after and files.module_digests("m") == {"m": before}
