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
    {
      id: "FacePrivacy.ReportLanguage",
      category: ["Face Privacy", "Reports", "Language"],
      name: "Language of the reports",
      tooltip: "Of what is said in the picture of a report. The report as JSON, which programs read, is always in English.",
      type: "combo",
      options: [
        { text: "English", value: "en" },
        { text: "Deutsch", value: "de" },
        { text: "Français", value: "fr" },
        { text: "Español", value: "es" },
        { text: "日本語", value: "ja" },
        { text: "中文", value: "zh" },
      ],
      defaultValue: "en",
    },
  ],
});
