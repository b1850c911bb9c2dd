"""Speak the sentences below into WAV files, the input of this example.

The files in `audio/` were made with this script and are kept with it, so it is
only needed to change them. It calls two programs, both packaged by Debian:
`espeak-ng` speaks, at 22050 Hz, and `sox` resamples that to the 16 kHz the
recogniser expects.
"""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

AUDIO_DIR = Path(__file__).resolve().parent / "audio"


class Voice(NamedTuple):
    """A voice of espeak-ng and its speed in words per minute."""

    name: str
    speed: int


# The recogniser learnt from people, and most synthetic voices lose it; these are
# the ones it follows best, each at the speed that suits it.
WOMAN = Voice("en-us+f2", 150)
MAN = Voice("en-us+klatt2", 170)
OLDER_MAN = Voice("en-us+klatt4", 160)

# Pairs on the same topic, so that the embeddings have something to find.
CLIPS: dict[str, tuple[Voice, str]] = {
    "weather_rain": (WOMAN, "rain is expected in the north of the country"),
    "weather_wind": (MAN, "heavy rain and strong winds are expected on sunday"),
    "game_first": (MAN, "our team lost the first game of the season"),
    "game_final": (MAN, "the team won the final game of the season"),
    "school_students": (MAN, "the students read the book before the meeting"),
    "school_teacher": (OLDER_MAN, "the teacher asked the students to read the book"),
    "vote_president": (OLDER_MAN, "the president will meet with reporters on monday"),
    "vote_november": (OLDER_MAN, "voters will choose a new president in november"),
    "price_gas": (MAN, "the price of gas went down again last week"),
    "price_oil": (MAN, "the price of oil went up again this week"),
    "city_bridge": (WOMAN, "the city built a new bridge across the river"),
    "city_hospital": (MAN, "the hospital needs more doctors and more money"),
}


def find_program(name: str) -> str:
    """Return the path of a program, or end with the way to install it."""
    path = shutil.which(name)
    if path is None:
        msg = f"{name} is missing; on Debian: apt-get install {name}"
        raise SystemExit(msg)
    return path


def speak(voice: Voice, sentence: str, target: Path) -> None:
    """Write one sentence as a 16 kHz mono 16-bit WAV file."""
    # No shell and no outside input: every argument is from this file.
    speech = subprocess.run(
        [
            *(find_program("espeak-ng"), "--stdout"),
            *("-v", voice.name, "-s", str(voice.speed), "-p", "45"),
            sentence,
        ],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    subprocess.run(
        [
            # -R repeats the same dither, so a second run gives the same bytes;
            # -V1 hides the warning that piped speech does not know its length.
            *(find_program("sox"), "-R", "-V1", "-t", "wav", "-"),
            *("-r", "16000", "-c", "1", "-b", "16", "-e", "signed", str(target)),
            # One loudness for all voices, and the silence around a sentence that
            # the recogniser needs to find where it starts and ends.
            *("norm", "-3", "pad", "0.2", "0.2"),
        ],
        check=True,
        input=speech,
    )


def main() -> None:
    """Write all clips and tell their sizes."""
    AUDIO_DIR.mkdir(exist_ok=True)
    for name, (voice, sentence) in CLIPS.items():
        target = AUDIO_DIR / f"{name}.wav"
        speak(voice, sentence, target)
        print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
