"""An encoder that is an ONNX graph, run by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from models.encoder import Encoder, Vectors, unit_rows

BATCH = 16
GREY = (127, 127, 127)  # zero, once pixels are scaled


class OnnxEncoder(Encoder):
    """Runs a graph with the input `pixels`, uint8 (n, side, side, 3).

    Its outputs are `features` (n, dim) and `maps` (n, channels, rows, columns); the beginning of a
    network has maps alone. A picture keeps
    its shape and all its edges: what it does not fill of the square is grey.
    """

    def __init__(
        self, name: str, version: str, graph: bytes | Path, side_px: int, threads: int = 1
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # waiting threads would take the core from the workers beside us
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = graph if isinstance(graph, bytes) else str(graph)
        self.session = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"]
        )
        self.name = name
        self.version = version
        self.side_px = side_px
        outputs = {output.name: output.shape[1] for output in self.session.get_outputs()}
        self.dim = outputs.get("features", outputs["maps"])

    def features(self, images: Sequence[Image.Image]) -> Vectors:
        """The network's global features before they are brought to length 1."""
        return self._run("features", images)

    def maps(self, images: Sequence[Image.Image]) -> Vectors:
        """The last maps, float32 (n, channels, rows, columns)."""
        return self._run("maps", images)

    def local_features(self, images: Sequence[Image.Image], grid: int = 2) -> Vectors:
        """float32 (n, grid * grid, channels), unit rows: the last maps, averaged over a grid."""
        maps = self.maps(images)
        rows = np.array_split(np.arange(maps.shape[2]), grid)
        columns = np.array_split(np.arange(maps.shape[3]), grid)
        cells = [maps[:, :, r][:, :, :, c].mean(axis=(2, 3)) for r in rows for c in columns]
        pooled = np.stack(cells, axis=1)
        return unit_rows(pooled.reshape(-1, pooled.shape[2])).reshape(pooled.shape)

    def pixels(self, images: Sequence[Image.Image]) -> npt.NDArray[np.uint8]:
        """The pictures as the graph takes them, uint8 (n, side, side, 3)."""
        return np.stack([np.asarray(padded(image, self.side_px)) for image in images])

    def _run(self, output: str, images: Sequence[Image.Image]) -> Vectors:
        parts = [
            self.session.run([output], {"pixels": self.pixels(images[i : i + BATCH])})[0]
            for i in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)


def padded(image: Image.Image, side_px: int) -> Image.Image:
    """The picture in the middle of a grey square, as large as fits."""
    width, height = (max(1, round(side * side_px / max(image.size))) for side in image.size)
    square = Image.new("RGB", (side_px, side_px), GREY)
    inside = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    square.paste(inside, ((side_px - width) // 2, (side_px - height) // 2))
    return square
