"""Drawn faces: an appearance that stays, seen under conditions that change.

Everything is a soft-edged ellipse or band in the plane of the face, placed on
a rounded head that turns. Draws come from NumPy's legacy generator, which is
frozen. Coordinates: x to the right, y downwards, the head is about 0.6 wide
and 0.75 high to each side of its centre, the picture goes from -1 to 1.
"""

from collections.abc import Sequence
from types import SimpleNamespace

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
    values = {
        name: rng.normal(0, high)
        if low == 'normal'
        else rng.uniform(low, high)
        for name, (low, high) in _CONDITIONS.items()
    }
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
    picture to picture of shape (num_pictures, 1, 1), colours of shape (3,) or
    (num_pictures, 1, 1, 3).
    """

    def __init__(
        self,
        appearance: dict[str, float],
        conditions: Sequence[Values],
        size: int,
    ) -> None:
        self.person = SimpleNamespace(**appearance)
        self.now = now = SimpleNamespace()
        for name in conditions[0]:
            values = np.array([each[name] for each in conditions])
            if name != 'grain':
                values = np.expand_dims(values, (1, 2))
            setattr(now, name, values)
        self.pixel = 2 / size
        centres = (np.arange(size) + 0.5) * self.pixel - 1
        self.across, self.down = centres[None, None, :], centres[None, :, None]
        # Undo shift, size and turn in the plane of the picture.
        x = (self.across - now.shift_x) / now.scale
        y = (self.down - now.shift_y) / now.scale
        cos, sin = np.cos(now.roll), np.sin(now.roll)
        self.x, self.y = x * cos + y * sin, y * cos - x * sin
        self.picture = np.zeros((len(conditions), size, size, 3))
        self.skin = _palette(_SKIN, self.person.skin)
        self.skin += 8 * self.person.skin_red * np.array([1, -0.4, -0.4])
        self.hair = _palette(_HAIR, self.person.hair)

    def paint_behind(self) -> None:
        """Background, clothes, neck, and the hair behind the head."""
        now, person = self.now, self.person
        slope = now.ground_x * self.across
        ground = now.ground + slope + now.ground_y * self.down
        self.picture += ground[..., None]
        self.picture += now.ground_colour
        cloth = self.ellipse(0, 1.25, 0.85, 0.42, turned=False)
        self.paint(now.cloth_colour, cloth)
        self.paint(0.8 * self.skin, self.ellipse(0, 0.75, 0.24, 0.4))
        width = person.head_width + 0.4 * person.hair_volume + 0.02
        height = person.head_height - 0.06 + person.hair_volume
        back = self.ellipse(0, -0.12, width, height)
        end = person.hair_sides
        long = self.ellipse(0, 0.5 * end - 0.1, width, 0.45 + 0.5 * end)
        self.paint(0.75 * self.hair, back * self.above(end))
        self.paint(0.75 * self.hair, long * self.above(end))

    def paint_head(self) -> None:
        """Ears, head with rounded shading, beard."""
        now, person = self.now, self.person
        for side in (-1, 1):
            # The ear on the far side disappears behind the head.
            x = side * (person.head_width - 0.01) - 0.22 * now.yaw
            ear = self.ellipse(x, 0.0, person.ears, 0.13, turned=False)
            self.paint(0.88 * self.skin, ear)
        tapered = 1 - person.jaw * (self.y / person.head_height).clip(0) ** 2
        wide = (np.abs(self.x) / (person.head_width * tapered)).clip(0, 4)
        high = (np.abs(self.y) / person.head_height).clip(0, 4)
        power = person.squareness
        radius = (wide**power + high**power) ** (1 / power)
        head = self.soft((radius - 1) * person.head_width)
        # A round head: darker towards the rim, lighter where it faces us.
        rim = 1.06 - 0.22 * radius.clip(0, 1) ** 3
        self.paint(self.skin * rim[..., None], head)
        beard = max(person.beard, 0)
        if beard:
            chin = self.below(person.eye_y + person.mouth_y - 0.1)
            around = 1 - self.ellipse(0, 0.12, 0.33, 0.33)
            grown = (0.3 + 0.5 * beard) * head * chin * around
            self.paint(0.8 * self.hair, grown)

    def paint_mouth(self) -> None:
        """Lips, curved by a smile, and the dark of an open mouth."""
        now, person = self.now, self.person
        y = person.eye_y + person.mouth_y
        if person.moustache > 0:
            shape = self.ellipse(0, y - 0.075, person.mouth_width, 0.05)
            self.paint(0.8 * self.hair, 0.75 * shape)
        width = person.mouth_width * (1 + 0.12 * now.smile)
        bend = 2.2 * now.smile
        opened = 0.09 * now.mouth_open.clip(0)
        red = np.array([150, 55, 55]) + 45 * person.lip_red
        colour = 0.55 * self.skin + 0.45 * red * (0.6 + 0.4 * person.skin)
        lips = self.ellipse(0, y, width, person.lips + opened, bend=bend)
        self.paint(colour - [0, 25, 15], lips)
        inside = self.ellipse(0, y, 0.82 * width, 0.008 + opened, bend=bend)
        self.paint(np.array([60, 20, 22]), inside)

    def paint_nose(self) -> None:
        """A ridge lit from one side, and the shade below the tip."""
        length, width = self.person.nose_length, self.person.nose_width
        y = self.person.eye_y + 0.02
        middle = y + 0.5 * length
        ridge = self.ellipse(0, middle, 0.4 * width, 0.55 * length, depth=0.12)
        self.paint(1.1 * self.skin, 0.55 * ridge)
        tip = self.ellipse(0, y + length, width, 0.035, depth=0.14)
        self.paint(0.62 * self.skin, 0.75 * tip)

    def paint_eyes(self) -> None:
        """Whites, irises, lids and brows."""
        now, person = self.now, self.person
        y, width = person.eye_y, person.eye_width
        height = person.eye_height * (1 - 0.75 * now.eye_closed.clip(0))
        colour = _palette(_IRIS, person.iris)
        for side in (-1, 1):
            x, slant = side * person.eye_gap, side * person.eye_slant
            lid = self.ellipse(x, y - 0.012, width, height + 0.014, slant)
            self.paint(0.6 * self.skin, lid)
            white = self.ellipse(x, y, 0.9 * width, height, slant)
            self.paint(np.array([232, 228, 224]), white)
            self.paint(colour, white * self.ellipse(x, y, 0.062, 0.062))
            self.paint(0.25 * colour, white * self.ellipse(x, y, 0.031, 0.031))
            brow = self.ellipse(
                x * 1.05,
                y - person.brow_gap - now.brow_raised,
                person.brow_width,
                person.brow_height,
                side * person.brow_slant,
            )
            self.paint(0.7 * self.hair, 0.9 * brow)

    def paint_hair(self) -> None:
        """The hair above the forehead and at the temples."""
        person = self.person
        width = person.head_width + 0.4 * person.hair_volume
        height = person.head_height + person.hair_volume
        # Little more than the outline of the head, which hardly moves.
        cap = self.ellipse(0, -0.02, width + 0.01, height, depth=-0.3)
        line = person.eye_y - person.hair_line + 0.06
        hair = cap * self.above(line, person.fringe)
        inner = self.ellipse(0, 0.1, person.head_width * 0.86, height)
        temples = cap * (1 - inner)
        hair = np.maximum(hair, temples * self.above(person.hair_sides))
        # Strands: a little lighter and darker along the way.
        strands = 1 + 0.12 * np.sin(14 * self.x + 6 * self.y)
        self.paint(self.hair * strands[..., None], hair)

    def paint_cover(self) -> None:
        """What hides a part of the face in some of the pictures."""
        now, eye_y = self.now, self.person.eye_y
        colour, kind = now.cover_colour, now.occlusion
        glasses = self.ellipse(0, eye_y - 0.02, 0.3, 0.025, depth=0.1)
        for x in (-0.24, 0.24):
            glass = self.ellipse(x, eye_y + 0.01, 0.2, 0.14, depth=0.1)
            glasses = np.maximum(glasses, glass)
        self.paint(0.35 * colour, 0.92 * glasses * (kind == 0))
        scarf = self.below(eye_y + 0.24) * self.ellipse(0, 0.35, 0.72, 0.75)
        self.paint(colour, scarf * (kind == 1))
        place, turn = now.cover_place, now.cover_turn
        offset = (self.across - place[..., 0]) * np.cos(turn)
        offset = offset + (self.down - place[..., 1]) * np.sin(turn)
        bar = self.soft(np.abs(offset) - 0.17)
        self.paint(colour, bar * (kind == 2))

    def photograph(self) -> np.ndarray:
        """Light, blur, grain; to 8 bits."""
        now = self.now
        light = now.light_x * self.across + now.light_y * self.down
        light = (now.brightness * (1 + light)).clip(0.25, 1.8)
        tint = now.warmth[..., None] * np.array([1, 0, -1]) + 1
        picture = self.picture * light[..., None] * tint
        grey = 118 * light.mean((1, 2))[:, None, None, None]
        picture = grey + (picture - grey) * now.contrast[..., None]
        share = now.blur[..., None] / 3
        for axis in (1, 2):
            edges = [(0, 0)] * 4
            edges[axis] = (1, 1)
            padded = np.pad(picture, edges, mode='edge')
            places = np.arange(picture.shape[axis])
            sides = padded.take(places, axis) + padded.take(places + 2, axis)
            picture = picture + share * (sides - 2 * picture)
        picture = picture + now.noise[..., None] * now.grain
        return np.round(picture).clip(0, 255).astype(np.uint8)

    def ellipse(
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
            # On a round head, what is at the side lies further back.
            back = 1 - (x / 0.75) ** 2 - (y / 0.95) ** 2
            z = 0.38 * np.sqrt(np.maximum(back, 0)) + depth
            yaw, pitch = self.now.yaw, self.now.pitch
            facing = np.cos(yaw) - x * np.sin(yaw)
            x = x * np.cos(yaw) + z * np.sin(yaw)
            y = y * np.cos(pitch) + z * np.sin(pitch)
            width = width * facing.clip(0.35, 1.15)
        across, down = self.x - x, self.y - y
        if np.any(slant):
            cos, sin = np.cos(slant), np.sin(slant)
            across, down = across * cos + down * sin, down * cos - across * sin
        if np.any(bend):
            down = down + bend * across**2
        radius = np.sqrt((across / width) ** 2 + (down / height) ** 2)
        return self.soft((radius - 1) * np.minimum(width, height))

    def above(self, y: float, slant: float = 0.0) -> np.ndarray:
        """Opacity of the half plane above a slanted line on the face."""
        return self.soft(-self.distance(y, slant))

    def below(self, y: float) -> np.ndarray:
        """Opacity of the half plane below a line on the face."""
        return self.soft(self.distance(y))

    def distance(self, y: float, slant: float = 0.0) -> np.ndarray:
        """How far each pixel is above a slanted line on the face."""
        pitch = self.now.pitch
        turned = y * np.cos(pitch) + 0.3 * np.sin(pitch)
        return turned + slant * self.x - self.y

    def soft(self, distance: np.ndarray) -> np.ndarray:
        """Opacity from the distance to an edge, one pixel wide."""
        edge = self.pixel / self.now.scale
        return (0.5 - distance / edge).clip(0, 1)

    def paint(self, colour: np.ndarray, opacity: np.ndarray) -> None:
        self.picture += opacity[..., None] * (colour - self.picture)


def _palette(colours: Sequence[Sequence[int]], place: float) -> np.ndarray:
    """The colour at a place in 0..1 along a row of colours."""
    colours = np.array(colours, float)
    index = min(int(place * (len(colours) - 1)), len(colours) - 2)
    share = place * (len(colours) - 1) - index
    return (1 - share) * colours[index] + share * colours[index + 1]
