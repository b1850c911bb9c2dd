"""The settings of a command."""

from tigerflow.log import logger
from tigerflow.settings import Settings, stray_variables


def load_settings() -> Settings:
    """Load the settings, and log variables that only look like settings.

    Raises:
        SettingError: a variable is not a whole number greater than 0.
        EnvFileError: the file that `TIGERFLOW_ENV_FILE` names cannot be read.
    """
    settings = Settings.load()
    for sentence in stray_variables():
        logger.warning("{}", sentence)
    return settings
