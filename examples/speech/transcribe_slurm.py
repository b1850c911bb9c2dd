"""The same transcription as in transcribe.py, on the compute nodes of a cluster."""

from transcribe import Transcribe

from tigerflow.tasks import SlurmTask


# SlurmTask comes first: it says where the methods of Transcribe run. In a project that
# runs on a cluster only, you would just derive Transcribe itself from SlurmTask.
class TranscribeOnNodes(SlurmTask, Transcribe):
    """Recognise speech with the US English model that ships with pocketsphinx."""


TranscribeOnNodes.cli()
