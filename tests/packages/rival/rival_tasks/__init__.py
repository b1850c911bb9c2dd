"""Another echo and another shout."""

from tigerflow.tasks import LocalTask


class Rival(LocalTask):
    @staticmethod
    def run(context, input_file, output_file):
        pass
