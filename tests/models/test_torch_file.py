import hashlib
import pickle

import numpy as np
import pytest

from models.torch_file import read_tensors

torch = pytest.importorskip("torch")


def write(path, data):
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def saved(path, value):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_reads_what_torch_saved_with_its_strides(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = {
        "plain": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1, 1:],
        "count": torch.tensor(7),
        "repeated": torch.ones(1).expand(5),
    }
    found = read_tensors(*saved(tmp_path / "old.pth", tensors))
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert np.array_equal(found[name], tensor.numpy())
        assert found[name].flags.c_contiguous


def test_the_digest_must_be_right(tmp_path):
    path, _ = saved(tmp_path / "old.pth", {"a": torch.ones(3)})
    with pytest.raises(ValueError, match="SHA-256"):
        read_tensors(path, "0" * 64)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_the_pickle_is_not_run(tmp_path, capsys):
    with pytest.raises(ValueError, match="no part of a dictionary"):
        read_tensors(*saved(tmp_path / "evil.pth", {"a": Evil()}))
    with pytest.raises(ValueError, match="no part of a dictionary"):
        read_tensors(*write(tmp_path / "first.pth", pickle.dumps(Evil())))
    assert capsys.readouterr().out == ""


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    path, _ = saved(tmp_path / "old.pth", {"a": torch.ones(3)})
    data = path.read_bytes()
    shape = b"K\x03\x85"  # the pickled tuple (3,)
    assert shape in data
    with pytest.raises(ValueError, match="outside"):
        read_tensors(*write(tmp_path / "far.pth", data.replace(shape, b"K\x63\x85")))


def test_a_file_cut_short_is_refused(tmp_path):
    path, _ = saved(tmp_path / "old.pth", {"a": torch.ones(3)})
    with pytest.raises(ValueError, match="cut short"):
        read_tensors(*write(tmp_path / "cut.pth", path.read_bytes()[:-4]))
    with pytest.raises(ValueError, match="not a"):
        read_tensors(*write(tmp_path / "text.pth", b"no pickle"))
