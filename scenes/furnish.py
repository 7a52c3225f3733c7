"""Putting solids into a scene: placement in metres, z up, and furniture made of several solids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splat.scenes import noise, prints, textures
from splat.scenes.noise import Canvas, Number
from splat.scenes.solids import Solid, Surface
from splat.scenes.texels import Texture

Vector = tuple[Number, Number, Number]
COVERS = (
    ("#7a2e2a", "#e3d8be"), ("#2f4a5c", "#e0b23a"), ("#c9a25d", "#2b2b2b"), ("#4f6a4d", "#f0e6cc"),
    ("#d8cfbb", "#7a2e2a"), ("#33363f", "#d9c48f"), ("#b65a36", "#f2e3c2"), ("#8d93a0", "#22262e"),
    ("#5d3f5c", "#e6cfa0"), ("#d9b84a", "#3a2a1c"), ("#3f7a7a", "#f1ead6"), ("#a33b3f", "#f4d9a0"),
)  # fmt: skip
"""Cover and ink of books."""


def turned(yaw: Number) -> np.ndarray:
    """Rotation about z by degrees, counter-clockwise from above."""
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


@dataclass(frozen=True, eq=False)
class Sheet:
    """A material large enough to cut faces of other sizes from it, with its grain along u and along v."""

    along_u: Texture
    along_v: Texture
    size: Number
    """Metres; both sheets are squares."""

    def cut(self, width: Number, height: Number, rng: np.random.Generator) -> Surface:
        """A face of that many metres, from a random place, with its grain along the longer side."""
        share = np.minimum(np.array([width, height]) / self.size, 1.0)
        u, v = (rng.random(2) * (1 - share)).tolist()
        tone = float(0.85 + 0.25 * rng.random())
        sheet = self.along_u if width >= height else self.along_v
        return Surface(sheet, (u, v, u + float(share[0]), v + float(share[1])), (tone, tone, tone))


def wooden(seed: int, texels_per_metre: Number, base: str, dark: str, size: Number = 1.6) -> Sheet:
    canvas = Canvas(size, size, texels_per_metre)
    picture = textures.wood(canvas, seed, base, dark)
    return Sheet(Texture(picture), Texture(np.ascontiguousarray(np.rot90(picture))), size)


class Room:
    """Collects solids. `detail` scales every texture's resolution: 1 is meant for photos 640 pixels wide."""

    def __init__(self, detail: float, seed: int) -> None:
        self.detail, self.solids = detail, list[Solid]()
        self.rng = np.random.default_rng([seed, 41])

    def canvas(self, width: Number, height: Number, texels_per_metre: Number) -> Canvas:
        return Canvas(width, height, texels_per_metre * self.detail)

    def plain(self, code: str) -> Surface:
        """One colour with fine mottles."""
        picture = noise.colour(code) * np.ones((64, 64, 1), np.float32)
        canvas = Canvas(0.2, 0.2, 320)
        return Surface(Texture(np.clip(noise.grain(canvas, picture, 0.08, int(code[1:], 16) % 9973), 0, 1)))

    def wall(self, centre: Vector, right: Vector, up: Vector, surface: Surface, casts: bool = True, name: str = "wall"
             ) -> None:  # fmt: skip
        """A quad; `right` and `up` are half edges as seen from the side it shows."""
        r, u = np.array(right), np.array(up)
        normal = np.cross(r, u)
        frame = np.stack([r, u, normal / np.linalg.norm(normal), np.array(centre)], 1)
        self.solids.append(Solid("quad", frame, (surface,), casts=casts, name=name))

    def box(
        self,
        centre: Vector,
        size: Vector,
        surface: Surface | Sheet,
        yaw: Number = 0.0,
        tilt: np.ndarray | None = None,
        faces: dict[int, Surface] | None = None,
        name: str = "box",
        casts: bool = True,
        visible: bool = True,
    ) -> None:
        """`faces` overrides single faces (order of `trace.FACES`); a Sheet is cut anew for each of the others."""
        half = np.array(size) / 2
        spans = ((size[1], size[2]), (size[0], size[2]), (size[0], size[1]))
        default = [surface.cut(*spans[f // 2], self.rng) if isinstance(surface, Sheet) else surface for f in range(6)]
        surfaces = tuple((faces or {}).get(f, default[f]) for f in range(6))
        linear = (turned(yaw) if tilt is None else turned(yaw) @ tilt) * half
        self.solids.append(Solid("box", np.column_stack([linear, centre]), surfaces, 0.0, casts, visible, name))

    def cylinder(
        self,
        base: Vector,
        radius: Number,
        height: Number,
        side: Surface,
        cap: Surface | None = None,
        lean: Vector = (0.0, 0.0, 1.0),
        gloss: Number = 0.0,
        name: str = "cylinder",
    ) -> None:
        """Stands on `base`, its axis along `lean`."""
        axis = np.array(lean) / np.linalg.norm(lean)
        x = np.cross([0.0, 1.0, 0.0], axis)
        x /= np.linalg.norm(x)
        frame = np.stack([x * radius, np.cross(axis, x) * radius, axis * height / 2], 1)
        centre = np.array(base) + axis * height / 2
        cap = cap or side
        self.solids.append(Solid("cylinder", np.column_stack([frame, centre]), (side, cap, cap), gloss, name=name))

    def ball(
        self,
        centre: Vector,
        radii: Vector,
        surface: Surface,
        tilt: np.ndarray | None = None,
        gloss: Number = 0.0,
        name: str = "ball",
    ) -> None:
        linear = (np.eye(3) if tilt is None else tilt) * np.array(radii)
        self.solids.append(Solid("sphere", np.column_stack([linear, centre]), (surface,), gloss, name=name))

    # ----------------------------------------------------------------------------------------------------- furniture

    def table(
        self, centre: Vector, size: Vector, top: Surface, wood: Sheet, yaw: Number = 0.0, leg: Number = 0.06
    ) -> None:
        """`centre` on the floor; `size` over all."""
        w, d, h = size
        turn, at = turned(yaw), np.array(centre)
        self.box(
            (centre[0], centre[1], centre[2] + h - 0.02), (w, d, 0.04), wood, yaw, faces={5: top}, name="table top"
        )
        for sx in (-1, 1):
            for sy in (-1, 1):
                x, y, z = (at + turn @ np.array([sx * (w / 2 - leg), sy * (d / 2 - leg), (h - 0.04) / 2])).tolist()
                self.box((x, y, z), (leg, leg, h - 0.04), wood, yaw, name="table leg")
        for sy in (-1, 1):
            x, y, z = (at + turn @ np.array([0, sy * (d / 2 - leg), h - 0.10])).tolist()
            self.box((x, y, z), (w - 3 * leg, 0.03, 0.09), wood, yaw, name="table rail")

    def book(
        self, seed: int, thickness: Number, height: Number, texels_per_metre: Number
    ) -> tuple[Surface, Surface, Surface]:
        """Surfaces of spine, cover and paper edge."""
        cover, ink = COVERS[seed % len(COVERS)]
        back = prints.spine(self.canvas(thickness, height, texels_per_metre), seed, cover, ink)
        tone = Texture(noise.grain(Canvas(0.2, 0.2, 200), noise.colour(cover) * np.ones((40, 40, 1), np.float32),
                                      0.07, seed))  # fmt: skip
        return Surface(Texture(back)), Surface(tone), self.paper_edge

    @cached_property
    def paper_edge(self) -> Surface:
        """The leaves of a closed book."""
        canvas = Canvas(0.05, 0.2, 700 * self.detail)
        leaves = noise.fractal(canvas, 0.006, 0.002, 77, gain=0.9, stretch=(30.0, 0.6))
        picture = noise.colour("#d8cdb2") * (1 + 0.10 * leaves)[..., None]
        return Surface(Texture(np.clip(picture, 0, 1).astype(np.float32)))

    def book_row(
        self, left: Number, right: Number, front: Number, floor: Number, depth: Number, tallest: Number, seed: int,
        texels_per_metre: Number,
    ) -> None:  # fmt: skip
        """Upright books on a board, spines towards -y, from `left` to about `right`; some lean, some stand back."""
        rng = np.random.default_rng([seed, 43])
        x, number = left, 0
        # One box, a little smaller than the shortest book and behind the foremost, throws the shadow of them all.
        low = 0.6 * tallest
        self.box(((left + right) / 2, front + 0.06 + depth / 4, floor + low / 2), (right - left - 0.06, depth / 2, low),
                 self.paper_edge, name="books' shadow", visible=False)  # fmt: skip
        while True:
            thickness, height = float(rng.uniform(0.022, 0.055)), float(tallest * rng.uniform(0.68, 1.0))
            if x + thickness > right:
                return
            back = float(rng.uniform(0.0, 0.045))
            spine, cover, paper = self.book(seed * 50 + number, thickness, height, texels_per_metre)
            d = depth * float(rng.uniform(0.75, 0.95)) - back
            self.box((x + thickness / 2, front + back + d / 2, floor + height / 2), (thickness, d, height), cover,
                     faces={2: spine, 4: paper, 5: paper}, name="book", casts=False)  # fmt: skip
            x, number = x + thickness + 0.002, number + 1

    def book_pile(self, base: Vector, seed: int, count: int, texels_per_metre: Number) -> float:
        """Lying books, each turned a little; returns the height of the pile's top."""
        rng = np.random.default_rng([seed, 47])
        z = base[2]
        for i in range(count):
            w, d, t = (float(rng.uniform(*r)) for r in ((0.24, 0.30), (0.17, 0.21), (0.028, 0.05)))
            yaw = float(rng.uniform(-28, 28))
            cover, ink = COVERS[(seed + 5 * i) % len(COVERS)]
            back = prints.spine(self.canvas(t, w, texels_per_metre), seed * 50 + i, cover, ink)
            # The spine lies along x on the -y side: its title runs to the right.
            lying = Surface(Texture(np.ascontiguousarray(np.rot90(back))))
            front = prints.composition(self.canvas(w, d, texels_per_metre), seed * 50 + i, COVERS[(seed + i) % 12] +
                                         COVERS[(seed + 3 * i + 1) % 12], depth=4)  # fmt: skip
            self.box((base[0], base[1], z + t / 2), (w, d, t), self.paper_edge, yaw,
                     faces={2: lying, 5: Surface(Texture(front))}, name="book")  # fmt: skip
            z += t
        return z

    def bookcase(
        self, left: Number, right: Number, front: Number, back: Number, heights: Sequence[Number], wood: Sheet,
        board: Number = 0.025, floor: Number = 0.0,
    ) -> None:  # fmt: skip
        """Two sides, a back and a board at every height (tops of boards, the last is the cover)."""
        y, depth, top = (front + back) / 2, back - front, heights[-1]
        middle = (floor + top) / 2
        for x in (left + board / 2, right - board / 2):
            self.box((x, y, middle), (board, depth, top - floor), wood, name="bookcase side")
        self.box(((left + right) / 2, back - 0.006, middle), (right - left - 2 * board, 0.012, top - floor), wood,
                 name="bookcase back")  # fmt: skip
        for h in heights:
            size = (right - left - 2 * board, depth - 0.014, board)
            self.box(((left + right) / 2, y - 0.001, h - board / 2), size, wood, name="bookcase board")

    def picture(self, centre: Vector, right: Vector, size: tuple[Number, Number], art: np.ndarray, canvas: Canvas,
                frame: str, thickness: Number = 0.025, mat: Number = 0.0) -> None:  # fmt: skip
        """A framed picture on a wall; `right` is the unit vector to its right as seen by who looks at it."""
        wood = textures.wood(canvas, int(frame[1:], 16) % 97, frame, "#2a1c12")
        face = Surface(Texture(prints.framed(canvas, art, wood, 0.03 if thickness > 0.01 else 0.0, mat)))
        x = np.array(right)
        outward = np.cross(x, [0.0, 0.0, 1.0])
        middle = np.array(centre) + outward * thickness / 2
        linear = np.stack([x * size[0] / 2, -outward * thickness / 2, np.array([0, 0, size[1] / 2])], 1)
        edge = self.plain(frame)
        surfaces = (edge, edge, face, edge, edge, edge)
        self.solids.append(Solid("box", np.column_stack([linear, middle]), surfaces, name="picture"))
