"""Files as earlier versions wrote them: with the old names of settings."""

import json

from recbole_lightgnn.config.aliases import SETTINGS, VALUES

OLD_NAME = {new: old for old, new in SETTINGS.items()}
OLD_VALUE = {name: {new: old for old, new in values.items()} for name, values in VALUES.items()}


def with_old_names(content):
    """Settings, or any JSON that contains settings, with old names and old values."""
    if isinstance(content, list):
        return [with_old_names(item) for item in content]
    if not isinstance(content, dict):
        return content
    result = {}
    for key, value in content.items():
        prefix, dot, name = key.rpartition(".")
        result[f"{prefix}{dot}{OLD_NAME.get(name, name)}"] = _old_value(name, value)
    return result


def _old_value(name, value):
    values = OLD_VALUE.get(name, {})
    if isinstance(value, dict) and "choices" in value:
        return value | {"choices": [values.get(choice, choice) for choice in value["choices"]]}
    return values.get(value, value) if isinstance(value, str) else with_old_names(value)


def age_json(file):
    """Give the settings in a JSON file their old names, in place."""
    file.write_text(json.dumps(with_old_names(json.loads(file.read_text()))), encoding="utf-8")


def age_journal(file):
    """Give the settings in a journal of Optuna's their old names, in place."""
    lines = [_old_entry(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def _old_entry(entry):
    entry = with_old_names(entry)
    if "param_name" in entry:
        name, distribution = entry["param_name"], json.loads(entry["distribution"])
        distribution["attributes"] = _old_value(name, distribution["attributes"])
        entry["param_name"] = OLD_NAME.get(name, name)
        entry["distribution"] = json.dumps(distribution)
    return entry
