"""Pictures of predictions, by Pillow: classes with bars, boxes, masks, sheets of many pictures, a confusion matrix.

Every function gives a picture, uint8 (3, y, x), for `write_image`. Colours are Okabe and Ito's (2008, "Color Universal
Design"), which colour-blind people tell apart, and cividis for amounts (Nuñez, Anderton and Renslow 2018).
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from glassformer.image.files import as_image, as_tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Picture = UInt8[Tensor, "3 y x"]
Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66),
    (120, 94, 240), (122, 82, 48), (60, 60, 60),
)  # fmt: skip
"""Of classes, by their numbers, over and over."""
RIGHT, WRONG = COLOURS[2], COLOURS[4]
INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (225, 225, 225)
CIVIDIS: tuple[Colour, ...] = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120), (165, 156, 116),
    (195, 179, 105), (225, 204, 85), (254, 232, 56),
)  # fmt: skip
SMALLEST = 240
"""Pixels of the shorter side that a picture is enlarged to before anything is drawn over it."""


def class_colour(number: int) -> Colour:
    """The colour of a class."""
    return COLOURS[number % len(COLOURS)]


def draw_classes(picture: Tensor, names: Sequence[str], probabilities: Sequence[float], *, title: str = "") -> Picture:
    """A picture, and beside it the names of its most probable classes with a bar for each.

    Raises ValueError where there is not one probability for each name.
    """
    if len(names) != len(probabilities):
        raise ValueError(f"{len(names)} names and {len(probabilities)} probabilities: each class needs both")
    image = enlarged(picture)
    line, width = 30, 300
    height = max(image.height, line * len(names)) + 60
    sheet, pen = paper(image.width + width + 60, height)
    write(pen, (20, 14), title or "what it shows", 17)
    sheet.paste(image, (20, 44))
    left = image.width + 40
    for row, (name, share) in enumerate(zip(names, probabilities, strict=True)):
        y = 44 + row * line
        write(pen, (left, y), fitted(name, 15, width - 70), 15)
        write(pen, (left + width, y), f"{share:.1%}", 15, anchor="ra")
        pen.rectangle((left, y + 19, left + width, y + 24), fill=FAINT)
        pen.rectangle((left, y + 19, left + max(1, round(width * share)), y + 24), fill=COLOURS[0])
    return as_tensor(sheet)


def draw_boxes(
    picture: Tensor,
    boxes: Float[Tensor, "m 4"],
    classes: Int[Tensor, "m"],
    *,
    labels: tuple[str, ...] | None = None,
    scores: Float[Tensor, "m"] | None = None,
    smallest: int = SMALLEST,
) -> Picture:
    """A picture with a frame around each object, in the colour of its class, its name and score above it.

    `boxes` are `x0 y0 x1 y1` in the picture's pixels.
    """
    image = enlarged(picture, smallest)
    scale = image.width / picture.shape[-1]
    pen, thick = pen_of(image), max(2, round(min(image.size) / 160))
    order = range(len(boxes)) if scores is None else scores.argsort().tolist()  # the surest on top
    for i in order:
        x0, y0, x1, y1 = (round(edge * scale) for edge in boxes[i].tolist())
        x0, x1 = sorted((x0, max(x1 - 1, x0)))
        y0, y1 = sorted((y0, max(y1 - 1, y0)))
        colour, number = class_colour(int(classes[i])), int(classes[i])
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=thick)
        name = labels[number] if labels else str(number)
        tag(pen, (x0, y0), name if scores is None else f"{name} {scores[i]:.2f}", colour, image)
    return as_tensor(image)


def draw_masks(
    picture: Tensor,
    masks: Bool[Tensor, "m rows columns"],
    classes: Int[Tensor, "m"],
    *,
    labels: tuple[str, ...] | None = None,
    scores: Float[Tensor, "m"] | None = None,
    smallest: int = SMALLEST,
) -> Picture:
    """A picture with each object's mask laid over it, half transparent with a hard edge, and its name in its middle.

    Objects of one class differ in nothing but their edges, which are white between them.
    """
    image = enlarged(picture, smallest)
    pixels = as_tensor(image).float()
    large = resized_masks(masks, (image.height, image.width))
    for mask, number in zip(large, classes.tolist(), strict=True):
        colour = pixels.new_tensor(class_colour(number))[:, None]
        pixels[:, mask] = 0.5 * pixels[:, mask] + 0.5 * colour
        pixels[:, edge_of(mask)] = 255.0
    drawn = as_image(pixels.round().byte())
    pen = pen_of(drawn)
    for i, (mask, number) in enumerate(zip(large, classes.tolist(), strict=True)):
        if mask.any():
            y, x = mask.nonzero().float().mean(0).tolist()
            name = labels[number] if labels else str(number)
            said = name if scores is None else f"{name} {scores[i]:.2f}"
            tag(pen, (round(x), round(y)), said, class_colour(number), drawn, middle=True)
    return as_tensor(drawn)


def draw_semantic(
    picture: Tensor,
    classes: Int[Tensor, "rows columns"] | UInt8[Tensor, "rows columns"],
    labels: tuple[str, ...] | None = None,
    *,
    smallest: int = SMALLEST,
) -> Picture:
    """A picture under the colours of its pixels' classes, 255 being none, and a legend of those that occur."""
    image = enlarged(picture, smallest)
    numbers = resized_map(classes, (image.height, image.width))
    pixels = as_tensor(image).float()
    there = [number for number in numbers.unique().tolist() if number != 255]
    for number in there:
        mask = numbers == number
        pixels[:, mask] = 0.4 * pixels[:, mask] + 0.6 * pixels.new_tensor(class_colour(number))[:, None]
    drawn = as_image(pixels.round().byte())
    sheet, pen = paper(drawn.width, drawn.height + 22 * len(there) + 10)
    sheet.paste(drawn, (0, 0))
    for row, number in enumerate(there):
        y = drawn.height + 8 + 22 * row
        pen.rectangle((4, y, 20, y + 14), fill=class_colour(number))
        write(pen, (28, y - 1), labels[number] if labels else str(number), 14)
    return as_tensor(sheet)


def draw_sheet(
    pictures: Sequence[Tensor],
    captions: Sequence[str],
    right: Sequence[bool] | None = None,
    *,
    title: str = "",
    columns: int = 8,
    cell: int = 104,
) -> Picture:
    """Many pictures in rows, a caption under each; in green with a tick or in vermilion with a cross where said.

    Raises ValueError where there are no pictures, or not a caption for each.
    """
    if not pictures or len(pictures) != len(captions) or (right is not None and len(right) != len(pictures)):
        raise ValueError(f"{len(pictures)} pictures, {len(captions)} captions; give at least one, and one for each")
    columns = min(columns, len(pictures))
    rows, top, line = -(-len(pictures) // columns), 40 if title else 12, 24
    sheet, pen = paper(max(columns * (cell + 12), 240) + 12, top + rows * (cell + line + 10))
    write(pen, (12, 12), fitted(title, 17, sheet.width - 24), 17)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = 12 + i % columns * (cell + 12), top + i // columns * (cell + line + 10)
        small = within(as_image(picture), cell)
        at = x + (cell - small.width) // 2, y + (cell - small.height) // 2
        sheet.paste(small, at)
        colour = INK if right is None else RIGHT if right[i] else WRONG
        if right is not None:
            frame = (at[0] - 2, at[1] - 2, at[0] + small.width + 1, at[1] + small.height + 1)
            pen.rectangle(frame, outline=colour, width=2)
            mark(pen, (x + 1, y + cell + 6), right[i])
        room = cell - (0 if right is None else 18)
        write(pen, (x + cell - room, y + cell + 4), fitted(caption, 13, room), 13, colour)
    return as_tensor(sheet)


def draw_confusion(counts: Sequence[Sequence[int]], labels: Sequence[str], *, title: str = "confusion") -> Picture:
    """How often what is there (rows) was taken for what (columns); the darker, the larger the share of the row.

    Above 40 classes the numbers are left out, and above 12 those on and off the diagonal that are 0.
    """
    n = len(labels)
    if len(counts) != n or any(len(row) != n for row in counts):
        raise ValueError(f"{len(counts)} rows of counts for {n} labels; expected {n} × {n}")
    cell = max(6, min(44, 720 // n))
    margin = min(170, 20 + max(round(font(13).getlength(label)) for label in labels))
    sheet, pen = paper(margin + n * cell + 60, 64 + n * cell + margin)
    left, top = margin + 30, 64
    write(pen, (12, 12), fitted(title, 17, sheet.width - 24), 17)
    write(pen, (left, 42), "rows: what is there; columns: what the model says", 13)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            share = count / max(1, sum(row))
            x, y = left + j * cell, top + i * cell
            colour = cividis(1 - share) if count else (245, 245, 245)
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), fill=colour)
            if cell >= 18 and (count or n <= 12):
                ink = (150, 150, 150) if not count else INK if share < 0.5 else PAPER
                write(pen, (x + cell // 2 - 1, y + cell // 2 - 1), str(count), min(15, cell // 2 - 3), ink, "mm")
        if cell >= 11:
            write(pen, (left - 8, top + i * cell + cell // 2), fitted(labels[i], 13, margin), 13, anchor="rm")
    if cell >= 11:
        for j, label in enumerate(labels):
            upright(sheet, (left + j * cell + cell // 2, top + n * cell + 6), fitted(label, 13, margin))
    return as_tensor(sheet)


def titled(picture: Tensor, title: str) -> Picture:
    """A picture under a line of text."""
    image = as_image(picture)
    sheet, pen = paper(image.width, image.height + 32)
    write(pen, (6, 7), fitted(title, 16, image.width - 12), 16)
    sheet.paste(image, (0, 32))
    return as_tensor(sheet)


def beside(pictures: Sequence[Tensor], titles: Sequence[str]) -> Picture:
    """Pictures of about one height next to each other, each under its title."""
    images = [as_image(picture) for picture in pictures]
    sheet, pen = paper(sum(image.width + 16 for image in images) + 16, max(image.height for image in images) + 56)
    x = 16
    for image, title in zip(images, titles, strict=True):
        write(pen, (x, 12), fitted(title, 16, image.width), 16)
        sheet.paste(image, (x, 40))
        x += image.width + 16
    return as_tensor(sheet)


# -- the tools ---------------------------------------------------------------------------------------------------------


@cache
def font(size: int) -> "FreeTypeFont | ImageFont":
    """The letters that come with Pillow."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def paper(width: int, height: int) -> tuple["Image", "ImageDraw"]:
    """A white sheet, and what draws on it."""
    from PIL import Image

    sheet = Image.new("RGB", (width, height), PAPER)
    return sheet, pen_of(sheet)


def pen_of(image: "Image") -> "ImageDraw":
    """What draws on an image."""
    from PIL import ImageDraw

    return ImageDraw.Draw(image)


def write(
    pen: "ImageDraw", at: tuple[int, int], text: str, size: int, colour: Colour = INK, anchor: str = "la"
) -> None:
    """A line of text."""
    pen.text(at, text, fill=colour, font=font(size), anchor=anchor)


def fitted(text: str, size: int, room: int) -> str:
    """The text, its end cut off where it is longer than so many pixels."""
    if font(size).getlength(text) <= room:
        return text
    while text and font(size).getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"


def tag(
    pen: "ImageDraw", at: tuple[int, int], text: str, colour: Colour, image: "Image", *, middle: bool = False
) -> None:
    """A name on a patch of its class's colour, above a corner or over a middle, all of it inside the picture."""
    size = 13 if min(image.size) < 500 else 17
    width, height = round(font(size).getlength(text)) + 8, size + 5
    x, y = (at[0] - width // 2, at[1] - height // 2) if middle else (at[0], at[1] - height)
    x, y = max(0, min(x, image.width - width)), max(0, min(y, image.height - height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    bright = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140
    write(pen, (x + 4, y + 1), text, size, INK if bright else PAPER)


def mark(pen: "ImageDraw", at: tuple[int, int], right: bool) -> None:
    """A tick or a cross, 11 pixels wide."""
    x, y = at
    if right:
        pen.line([(x, y + 6), (x + 4, y + 10), (x + 11, y)], fill=RIGHT, width=3)
    else:
        pen.line([(x + 1, y), (x + 10, y + 10)], fill=WRONG, width=3)
        pen.line([(x + 1, y + 10), (x + 10, y)], fill=WRONG, width=3)


def upright(sheet: "Image", at: tuple[int, int], text: str) -> None:
    """A text that reads from below, its end at the top in the middle of `at`."""
    from PIL import Image

    label = Image.new("RGB", (round(font(13).getlength(text)) + 2, 18), PAPER)
    write(pen_of(label), (1, 1), text, 13)
    turned = label.transpose(Image.Transpose.ROTATE_90)
    sheet.paste(turned, (at[0] - turned.width // 2, at[1]))


def cividis(share: float) -> Colour:
    """The colour of an amount between 0 and 1."""
    place = min(max(share, 0.0), 1.0) * (len(CIVIDIS) - 1)
    low = min(int(place), len(CIVIDIS) - 2)
    red, green, blue = (round(a + (b - a) * (place - low)) for a, b in zip(CIVIDIS[low], CIVIDIS[low + 1], strict=True))
    return red, green, blue


def enlarged(picture: Tensor, smallest: int = SMALLEST) -> "Image":
    """A picture whose shorter side has so many pixels at least; small ones are enlarged by a whole number."""
    from PIL import Image

    image = as_image(picture)
    times = -(-smallest // min(image.size))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST) if times > 1 else image


def within(image: "Image", cell: int) -> "Image":
    """An image made to fit a square: tiny ones enlarged by a whole number, large ones shrunk."""
    from PIL import Image

    if max(image.size) <= cell // 2:
        times = cell // max(image.size)
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    scale = cell / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def resized_map(numbers: Tensor, size: tuple[int, int]) -> Int[Tensor, "y x"]:
    """A map of whole numbers at another size, each place as its nearest."""
    rows, columns = (torch.arange(new) * old // new for new, old in zip(size, numbers.shape[-2:], strict=True))
    return numbers.cpu().long()[rows][:, columns]


def resized_masks(masks: Bool[Tensor, "m y x"], size: tuple[int, int]) -> Bool[Tensor, "m rows columns"]:
    """Masks at another size, each place as its nearest."""
    return torch.stack([resized_map(mask, size).bool() for mask in masks]) if len(masks) else masks.new_zeros(0, *size)


def edge_of(mask: Bool[Tensor, "y x"]) -> Bool[Tensor, "y x"]:
    """The places of a mask with a neighbour outside."""
    inside = mask.clone()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside
