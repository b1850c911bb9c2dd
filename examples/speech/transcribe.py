"""Turn a short English WAV recording into a line of text, without a network."""

# Heavy packages are imported inside the methods, so that reading this module
# (for its options, or to compile a pipeline) needs none of them.

from pathlib import Path

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext

SAMPLE_RATE = 16_000  # Hz; what the acoustic model was trained on
SAMPLE_WIDTH = 2  # bytes, i.e. 16-bit samples
CHANNELS = 1
EXPECTED = f"{SAMPLE_RATE} Hz, {CHANNELS} channel, {SAMPLE_WIDTH * 8}-bit PCM"


def read_samples(path: Path) -> bytes:
    """Return the raw samples of a WAV file, or say why they cannot be decoded."""
    import wave

    try:
        with wave.open(str(path), "rb") as wav:
            rate, channels = wav.getframerate(), wav.getnchannels()
            width, promised = wav.getsampwidth(), wav.getnframes()
            samples = wav.readframes(promised)
    except (wave.Error, EOFError) as error:
        # EOFError carries no text of its own: an empty file would be reported
        # as a bare exception name.
        reason = str(error) or "the file ends before its header does"
        msg = f"{path.name} is not a readable WAV file ({reason}); expected {EXPECTED}"
        raise ValueError(msg) from error

    # The recogniser accepts any bytes and answers nonsense for the wrong format,
    # so the format has to be refused here.
    if (rate, channels, width) != (SAMPLE_RATE, CHANNELS, SAMPLE_WIDTH):
        found = f"{rate} Hz, {channels} channel(s), {width * 8}-bit"
        msg = f"{path.name}: expected {EXPECTED}; found {found}"
        raise ValueError(msg)
    if not samples:
        msg = f"{path.name} holds no audio samples; expected {EXPECTED}"
        raise ValueError(msg)
    held = len(samples) // (CHANNELS * SAMPLE_WIDTH)
    if held < promised:
        msg = f"{path.name} is cut short: {held} of {promised} samples are there"
        raise ValueError(msg)
    if not any(samples):
        # The model hears a word even in digital silence, e.g. from a muted channel.
        msg = f"{path.name} holds nothing but silence"
        raise ValueError(msg)
    return samples


class Transcribe(LocalTask):
    """Recognise speech with the US English model that ships with pocketsphinx."""

    @staticmethod
    def setup(context: SetupContext) -> None:
        """Load the model once rather than for every clip."""
        from pocketsphinx import Decoder

        context.decoder = Decoder(samprate=SAMPLE_RATE)

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        """Write what was said in one recording."""
        samples = read_samples(input_file)

        decoder = context.decoder
        # The decoder's front end adapts to all it has heard; without a fresh start,
        # the text of a clip would depend on the clips before it.
        decoder.reinit_feat()
        decoder.start_utt()
        try:
            # `full_utt` lets the loudness be normalised over the whole clip, rather
            # than from an estimate made while it goes by.
            decoder.process_raw(samples, no_search=False, full_utt=True)
        finally:
            decoder.end_utt()  # an utterance left open would fail the next file

        hypothesis = decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr:
            msg = f"no words were recognised in {input_file.name}"
            raise ValueError(msg)
        output_file.write_text(hypothesis.hypstr + "\n", encoding="utf-8")


Transcribe.cli()
