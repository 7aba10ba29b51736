"""Drawn faces: an appearance that stays, seen under conditions that change.

Everything is a soft-edged ellipse or band in the plane of the face, placed on
a rounded head that turns. Draws come from NumPy's legacy generator, which is
frozen. Coordinates: x to the right, y downwards, the head is about 0.6 wide
and 0.75 high to each side of its centre, the picture goes from -1 to 1.
"""

from collections.abc import Sequence

import numpy as np

Values = dict[str, np.ndarray]

#: What makes a person: each drawn once, uniformly. Lengths are in units of
#: half the picture, angles in radians, the rest in 0..1.
_APPEARANCE = dict(
    head_width=(0.47, 0.63),
    head_height=(0.64, 0.78),
    jaw=(0.05, 0.5),  # how much narrower it gets towards the chin
    squareness=(1.9, 2.7),  # exponent of the outline: 2 is an ellipse
    skin=(0.0, 1.0),  # place on the palette
    skin_red=(-1.0, 1.0),
    hair=(0.0, 1.0),  # place on the palette
    hair_line=(0.28, 0.62),  # lower end above the eyes
    hair_volume=(0.02, 0.2),
    hair_sides=(-0.35, 0.75),  # lower end at the sides
    fringe=(-0.45, 0.45),  # slant of the lower end
    eye_gap=(0.19, 0.28),
    eye_y=(-0.14, 0.0),
    eye_width=(0.095, 0.15),
    eye_height=(0.05, 0.085),
    eye_slant=(-0.3, 0.3),
    iris=(0.0, 1.0),  # place on the palette
    brow_gap=(0.11, 0.18),  # above the eye
    brow_height=(0.018, 0.05),
    brow_width=(0.11, 0.19),
    brow_slant=(-0.35, 0.35),
    nose_length=(0.2, 0.34),
    nose_width=(0.06, 0.14),
    mouth_y=(0.33, 0.45),  # below the eyes
    mouth_width=(0.14, 0.25),
    lips=(0.025, 0.065),
    lip_red=(0.0, 1.0),
    ears=(0.05, 0.13),
    beard=(-2.0, 1.0),  # most have none
    moustache=(-2.5, 1.0),
)

#: What differs from picture to picture: uniform, or ('normal', deviation).
_CONDITIONS = dict(
    yaw=('normal', 0.22),  # radians
    pitch=('normal', 0.12),
    roll=('normal', 0.09),
    scale=(0.92, 1.1),
    shift_x=('normal', 0.045),
    shift_y=('normal', 0.045),
    light_x=('normal', 0.3),  # change of brightness across the picture
    light_y=('normal', 0.2),
    brightness=(0.7, 1.2),
    contrast=(0.8, 1.15),
    warmth=('normal', 0.04),
    smile=(-0.6, 1.0),
    mouth_open=(-0.8, 1.0),  # closed below 0
    eye_closed=(-2.0, 1.0),
    brow_raised=(-0.03, 0.05),
    noise=(1.0, 9.0),  # grey levels
    blur=(0.0, 0.7),  # share of the neighbours in a pixel
    cloth_hue=(0.0, 1.0),
    ground=(20.0, 225.0),
    ground_x=('normal', 30.0),
    ground_y=('normal', 30.0),
)
_OCCLUDED = 0.25  # of the pictures

_SKIN = ((92, 58, 42), (150, 104, 78), (205, 155, 122), (240, 205, 180))
_HAIR = (
    *((22, 18, 20), (58, 38, 26), (112, 70, 38), (150, 62, 30)),
    *((205, 165, 95), (170, 170, 172)),
)
_IRIS = ((45, 28, 18), (95, 65, 30), (75, 110, 70), (85, 130, 175))


def draw_appearance(rng: np.random.RandomState) -> dict[str, float]:
    """Draw what makes a person.

    Args:
        rng (RandomState): Source of all that is random.

    Returns:
        dict[str, float]: Values of the traits, by name.
    """
    return {name: rng.uniform(*span) for name, span in _APPEARANCE.items()}


def draw_conditions(rng: np.random.RandomState, size: int) -> Values:
    """Draw what is particular to one picture.

    Args:
        rng (RandomState): Source of all that is random.
        size (int): Height and width of the picture in pixels.

    Returns:
        dict[str, np.ndarray]: Values of the conditions, by name; ``grain`` is
        noise of shape (size, size, 3), the others are numbers and colours.
    """
    values = {}
    for name, (low, high) in _CONDITIONS.items():
        values[name] = (
            rng.normal(0, high) if low == 'normal' else rng.uniform(low, high)
        )
    values['ground_colour'] = rng.uniform(-40, 40, 3)
    values['cloth_colour'] = rng.uniform(20, 230, 3)
    # Glasses, a scarf before the mouth, or a bar across the picture.
    kind = rng.randint(3) if rng.uniform() < _OCCLUDED else -1
    values['occlusion'] = kind
    values['cover_colour'] = rng.uniform(10, 220, 3)
    values['cover_place'] = rng.uniform(-0.9, 0.9, 2)
    values['cover_turn'] = rng.uniform(0, np.pi)
    values['grain'] = rng.normal(0, 1, (size, size, 3))
    return values


def draw_faces(
    appearance: dict[str, float], conditions: Sequence[Values], size: int
) -> np.ndarray:
    """Draw pictures of one person.

    Args:
        appearance (dict[str, float]): See :func:`draw_appearance`.
        conditions (Sequence): Of each picture, see :func:`draw_conditions`.
        size (int): Height and width in pixels.

    Returns:
        np.ndarray: Shape (num_pictures, size, size, 3), uint8, RGB.
    """
    face = _Face(appearance, conditions, size)
    face.paint_behind()
    face.paint_head()
    face.paint_mouth()
    face.paint_nose()
    face.paint_eyes()
    face.paint_hair()
    face.paint_cover()
    return face.photograph()


class _Face:
    """The pictures of one person while they are painted, all at once.

    Arrays are of shape (num_pictures, size, size), numbers that differ from
    picture to picture of shape (num_pictures, 1, 1).
    """

    def __init__(
        self,
        appearance: dict[str, float],
        conditions: Sequence[Values],
        size: int,
    ) -> None:
        self.is_ = appearance
        self.now = {
            name: np.array([values[name] for values in conditions])
            for name in conditions[0]
        }
        for name, values in self.now.items():
            if values.ndim == 1:
                self.now[name] = values[:, None, None]
        count = len(conditions)
        self.pixel = 2 / size
        centres = (np.arange(size) + 0.5) * self.pixel - 1
        self.across, self.down = centres[None, None, :], centres[None, :, None]
        self.x, self.y = self._to_face(self.across, self.down)
        self.picture = np.zeros((count, size, size, 3))
        self.skin = _palette(_SKIN, appearance['skin'])
        self.skin += 8 * appearance['skin_red'] * np.array([1, -0.4, -0.4])
        self.hair = _palette(_HAIR, appearance['hair'])

    def _to_face(self, x: np.ndarray, y: np.ndarray) -> tuple:
        """Undo shift, size and turn in the plane of the picture."""
        now = self.now
        x = (x - now['shift_x']) / now['scale']
        y = (y - now['shift_y']) / now['scale']
        cos, sin = np.cos(now['roll']), np.sin(now['roll'])
        return x * cos + y * sin, y * cos - x * sin

    def paint_behind(self) -> None:
        """Background, clothes, neck, and the hair behind the head."""
        now, is_ = self.now, self.is_
        ground = (
            now['ground']
            + now['ground_x'] * self.across
            + now['ground_y'] * self.down
        )
        self.picture += ground[..., None]
        self.picture += now['ground_colour'][:, None, None, :]
        self._paint(
            now['cloth_colour'][:, None, None, :],
            self._ellipse(0, 1.25, 0.85, 0.42, turned=False),
        )
        self._paint(0.8 * self.skin, self._ellipse(0, 0.75, 0.24, 0.4))
        width = is_['head_width'] + 0.4 * is_['hair_volume'] + 0.02
        back = self._ellipse(
            0, -0.12, width, is_['head_height'] - 0.06 + is_['hair_volume']
        )
        end = is_['hair_sides']
        long = self._ellipse(0, 0.5 * end - 0.1, width, 0.45 + 0.5 * end)
        self._paint(0.75 * self.hair, back * self._below(end, 0, True))
        self._paint(0.75 * self.hair, long * self._below(end, 0, True))

    def paint_head(self) -> None:
        """Ears, head with rounded shading, beard."""
        now, is_ = self.now, self.is_
        for side in (-1, 1):
            # The ear on the far side disappears behind the head.
            x = side * (is_['head_width'] - 0.01) - 0.22 * now['yaw']
            ear = self._ellipse(x, 0.0, is_['ears'], 0.13, turned=False)
            self._paint(0.88 * self.skin, ear)
        tapered = 1 - is_['jaw'] * (self.y / is_['head_height']).clip(0) ** 2
        wide = (np.abs(self.x) / (is_['head_width'] * tapered)).clip(0, 4)
        high = (np.abs(self.y) / is_['head_height']).clip(0, 4)
        power = is_['squareness']
        radius = (wide**power + high**power) ** (1 / power)
        self.head = self._soft((radius - 1) * is_['head_width'])
        # A round head: darker towards the rim, lighter where it faces us.
        rim = 1.06 - 0.22 * radius.clip(0, 1) ** 3
        self._paint(self.skin * rim[..., None], self.head)
        beard = max(is_['beard'], 0)
        if beard:
            chin = self._below(is_['eye_y'] + is_['mouth_y'] - 0.1, 0.0, False)
            around = 1 - self._ellipse(0, 0.12, 0.33, 0.33)
            self._paint(
                0.8 * self.hair,
                (0.3 + 0.5 * beard) * self.head * chin * around,
            )

    def paint_mouth(self) -> None:
        """Lips, curved by a smile, and the dark of an open mouth."""
        now, is_ = self.now, self.is_
        y = is_['eye_y'] + is_['mouth_y']
        if is_['moustache'] > 0:
            self._paint(
                0.8 * self.hair,
                0.75 * self._ellipse(0, y - 0.075, is_['mouth_width'], 0.05),
            )
        width = is_['mouth_width'] * (1 + 0.12 * now['smile'])
        bend = 2.2 * now['smile']
        opened = 0.09 * now['mouth_open'].clip(0)
        red = np.array([150, 55, 55]) + 45 * is_['lip_red']
        lips = 0.55 * self.skin + 0.45 * red * (0.6 + 0.4 * is_['skin'])
        self._paint(
            lips - [0, 25, 15],
            self._ellipse(0, y, width, is_['lips'] + opened, bend=bend),
        )
        self._paint(
            np.array([60, 20, 22]),
            self._ellipse(0, y, 0.82 * width, 0.008 + opened, bend=bend),
        )

    def paint_nose(self) -> None:
        """A ridge lit from one side, and the shade below the tip."""
        is_ = self.is_
        length, width = is_['nose_length'], is_['nose_width']
        y = is_['eye_y'] + 0.02
        ridge = self._ellipse(
            0, y + 0.5 * length, 0.4 * width, 0.55 * length, depth=0.12
        )
        self._paint(1.1 * self.skin, 0.55 * ridge)
        tip = self._ellipse(0, y + length, width, 0.035, depth=0.14)
        self._paint(0.62 * self.skin, 0.75 * tip)

    def paint_eyes(self) -> None:
        """Whites, irises, lids and brows."""
        now, is_ = self.now, self.is_
        closed = now['eye_closed'].clip(0)
        height = is_['eye_height'] * (1 - 0.75 * closed)
        iris = _palette(_IRIS, is_['iris'])
        lid = 0.6 * self.skin
        for side in (-1, 1):
            x, y = side * is_['eye_gap'], is_['eye_y']
            slant = side * is_['eye_slant']
            width = is_['eye_width']
            self._paint(
                lid, self._ellipse(x, y - 0.012, width, height + 0.014, slant)
            )
            white = self._ellipse(x, y, 0.9 * width, height, slant)
            self._paint(np.array([232, 228, 224]), white)
            radius = 0.062
            self._paint(iris, white * self._ellipse(x, y, radius, radius))
            self._paint(
                0.25 * iris,
                white * self._ellipse(x, y, 0.5 * radius, 0.5 * radius),
            )
            brow = self._ellipse(
                x * 1.05,
                y - is_['brow_gap'] - now['brow_raised'],
                is_['brow_width'],
                is_['brow_height'],
                side * is_['brow_slant'],
            )
            self._paint(0.7 * self.hair, 0.9 * brow)

    def paint_hair(self) -> None:
        """The hair above the forehead and at the temples."""
        is_ = self.is_
        width = is_['head_width'] + 0.4 * is_['hair_volume']
        height = is_['head_height'] + is_['hair_volume']
        # Little more than the outline of the head, which hardly moves.
        cap = self._ellipse(0, -0.02, width + 0.01, height, depth=-0.3)
        line = is_['eye_y'] - is_['hair_line'] + 0.06
        above = self._below(line, is_['fringe'], True)
        hair = cap * above
        end = is_['hair_sides']
        inner = is_['head_width'] * 0.86
        temples = cap * (1 - self._ellipse(0, 0.1, inner, height))
        hair = np.maximum(hair, temples * self._below(end, 0, True))
        # Strands: a little lighter and darker along the way.
        strands = 1 + 0.12 * np.sin(14 * self.x + 6 * self.y)
        self._paint(self.hair * strands[..., None], hair)

    def paint_cover(self) -> None:
        """What hides a part of the face in some of the pictures."""
        now, is_ = self.now, self.is_
        kind = now['occlusion']
        colour = now['cover_colour'][:, None, None, :]
        glasses = 0
        for side in (-1, 1):
            glass = self._ellipse(
                side * 0.24, is_['eye_y'] + 0.01, 0.2, 0.14, depth=0.1
            )
            glasses = np.maximum(glasses, glass)
        bridge = self._ellipse(0, is_['eye_y'] - 0.02, 0.3, 0.025, depth=0.1)
        glasses = np.maximum(glasses, bridge)
        self._paint(0.35 * colour, 0.92 * glasses * (kind == 0))
        scarf = self._below(is_['eye_y'] + 0.24, 0.0, False)
        wrapped = self._ellipse(0, 0.35, 0.72, 0.75)
        self._paint(colour, scarf * wrapped * (kind == 1))
        place = now['cover_place'][:, :, None, None]
        turn = now['cover_turn']
        offset = (self.across - place[:, 0]) * np.cos(turn)
        offset = offset + (self.down - place[:, 1]) * np.sin(turn)
        bar = self._soft(np.abs(offset) - 0.17)
        self._paint(colour, bar * (kind == 2))

    def photograph(self) -> np.ndarray:
        """Light, blur, grain; to 8 bits."""
        now = self.now
        light = now['light_x'] * self.across + now['light_y'] * self.down
        light = (now['brightness'] * (1 + light)).clip(0.25, 1.8)
        tint = now['warmth'][..., None] * np.array([1, 0, -1]) + 1
        picture = self.picture * light[..., None] * tint
        grey = 118 * light.mean((1, 2))[:, None, None, None]
        picture = grey + (picture - grey) * now['contrast'][..., None]
        share = now['blur'][..., None] / 3
        for axis in (1, 2):
            edges = [(0, 0)] * 4
            edges[axis] = (1, 1)
            padded = np.pad(picture, edges, mode='edge')
            size = picture.shape[axis]
            sides = [
                np.take(padded, np.arange(size) + start, axis)
                for start in (0, 2)
            ]
            picture = picture + share * (sides[0] + sides[1] - 2 * picture)
        picture = picture + now['noise'][..., None] * now['grain']
        return np.round(picture).clip(0, 255).astype(np.uint8)

    def _ellipse(
        self,
        x: float | np.ndarray,
        y: float | np.ndarray,
        width: float | np.ndarray,
        height: float | np.ndarray,
        slant: float = 0.0,
        bend: float | np.ndarray = 0.0,
        depth: float = 0.0,
        turned: bool = True,
    ) -> np.ndarray:
        """Opacity of an ellipse on the face.

        Args:
            x, y: Centre, seen from the front.
            width, height: Half axes.
            slant: Turn around the centre.
            bend: How much the ends go up, for mouths.
            depth: How far the centre stands out from the face.
            turned: Whether the turn of the head moves it.
        """
        if turned:
            now = self.now
            # On a round head, what is at the side lies further back.
            back = 1 - (x / 0.75) ** 2 - (y / 0.95) ** 2
            z = 0.38 * np.sqrt(np.maximum(back, 0)) + depth
            facing = np.cos(now['yaw']) - x * np.sin(now['yaw'])
            x = x * np.cos(now['yaw']) + z * np.sin(now['yaw'])
            y = y * np.cos(now['pitch']) + z * np.sin(now['pitch'])
            width = width * facing.clip(0.35, 1.15)
        across, down = self.x - x, self.y - y
        if np.any(slant):
            cos, sin = np.cos(slant), np.sin(slant)
            across, down = across * cos + down * sin, down * cos - across * sin
        if np.any(bend):
            down = down + bend * across**2
        radius = np.sqrt((across / width) ** 2 + (down / height) ** 2)
        return self._soft((radius - 1) * np.minimum(width, height))

    def _below(self, y: float, slant: float, above: bool) -> np.ndarray:
        """Opacity of the half plane below (or above) a slanted line."""
        now = self.now
        turned = y * np.cos(now['pitch']) + 0.3 * np.sin(now['pitch'])
        distance = turned + slant * self.x - self.y
        return self._soft(-distance if above else distance)

    def _soft(self, distance: np.ndarray) -> np.ndarray:
        """Opacity from the distance to an edge, one pixel wide."""
        edge = self.pixel / self.now['scale']
        return (0.5 - distance / edge).clip(0, 1)

    def _paint(self, colour: np.ndarray, opacity: np.ndarray) -> None:
        self.picture += opacity[..., None] * (colour - self.picture)


def _palette(colours: Sequence[Sequence[int]], place: float) -> np.ndarray:
    """The colour at a place in 0..1 along a row of colours."""
    colours = np.array(colours, float)
    index = min(int(place * (len(colours) - 1)), len(colours) - 2)
    share = place * (len(colours) - 1) - index
    return (1 - share) * colours[index] + share * colours[index + 1]
