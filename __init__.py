"""Face privacy nodes for ComfyUI: the host's entry point and nothing else."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # noqa: ANN201 (the host's type is known only inside the host)
    """Return the extension; called once by the host at start."""
    import logging

    try:
        from .nodes import FacePrivacyExtension
    except Exception:
        # The host reports a failed import in one line; the log gets the whole story.
        logging.getLogger(__name__).exception("Face Privacy could not be loaded.")
        raise
    return FacePrivacyExtension()
