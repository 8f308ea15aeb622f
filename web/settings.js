import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "FacePrivacy.Settings",
  settings: [
    {
      id: "FacePrivacy.ModelsFolder",
      category: ["Face Privacy", "Model files", "Folder"],
      name: "Folder of the model files",
      tooltip:
        "Whole path of a folder on the computer that runs ComfyUI, searched before models/faceprivacy. Empty: only there. " +
        "Files in it are used only if their checksum is right; nothing is downloaded.",
      type: "text",
      defaultValue: "",
    },
  ],
});
