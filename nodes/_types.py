"""Sockets of the pack and what travels on them.

FACEPRIVACY_FACES       core `types.Faces`: the chosen faces of an image batch.
FACEPRIVACY_CROPS       core `types.FaceCrops`: where each aligned crop lies in its image.
FACEPRIVACY_RECOGNIZERS tuple of core `protocols.FaceRecognizer`.
FACEPRIVACY_ENCODER     core `builtin.model.FaceEncoder`: the built-in model's picture-to-tokens part.
FACEPRIVACY_INVERSION   core `embeddings.inversion.FaceInversion`: stage embeddings of N crops.
FACEPRIVACY_KEY         core `keyed.keys.PrivacyKey`: a handle that shows a name and a public id, never a key.
FACEPRIVACY_PERSON      tuple of core `faces.people.People`: identity vectors of known faces, which it never shows.
FACEPRIVACY_KEYED       tuple of core `keyed.picture.KeyedPicture`, one for each image of a batch.
"""

from comfy_api.latest import io

FacesType = io.Custom("FACEPRIVACY_FACES")
CropsType = io.Custom("FACEPRIVACY_CROPS")
RecognizersType = io.Custom("FACEPRIVACY_RECOGNIZERS")
EncoderType = io.Custom("FACEPRIVACY_ENCODER")
InversionType = io.Custom("FACEPRIVACY_INVERSION")
KeyType = io.Custom("FACEPRIVACY_KEY")
PersonType = io.Custom("FACEPRIVACY_PERSON")
KeyedType = io.Custom("FACEPRIVACY_KEYED")
