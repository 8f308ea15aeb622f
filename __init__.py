"""Face privacy nodes for ComfyUI: the host's entry point and nothing else."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # noqa: ANN201 (the host's type is known only inside the host)
    """Return the extension; called once by the host at start.

    Raises:
        ImportError: A package is missing; the text says what to run.
    """
    import logging
    from pathlib import Path

    try:
        from .nodes import FacePrivacyExtension
    except ImportError as error:
        from .faceprivacy_core.missing_packages import advice

        raise ImportError(advice(error, Path(__file__).parent), name=error.name) from error
    except Exception:
        # The host reports a failed import in one line; the log gets the whole story.
        logging.getLogger(__name__).exception("Face Privacy could not be loaded.")
        raise
    return FacePrivacyExtension()
