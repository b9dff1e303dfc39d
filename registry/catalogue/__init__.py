"""All SQL about modules: names, versions, bytes, aliases, lineage. The first argument of each verb is the session."""

from registry.catalogue.aliases import (
    alias_history,
    alias_out,
    delete_alias,
    list_aliases,
    rollback_alias,
    set_alias,
)
from registry.catalogue.certificates import (
    certificate_out,
    keep_probes,
    keep_replays,
    probes_of,
    sharing,
    still_there,
)
from registry.catalogue.find import find_module, resolve, version_numbers
from registry.catalogue.lineage import (
    lineage,
    network_parts,
    networks_of,
    networks_with_task,
    served_categories,
    teacher_tasks,
    teachers_of,
)
from registry.catalogue.listing import (
    Figures,
    figures,
    get_module,
    list_modules,
    list_versions,
    module_etag,
    served_networks,
    update_module,
)
from registry.catalogue.outs import module_out, version_out, versions_out
from registry.catalogue.publish import NetworkVersions, compose_document, publish
from registry.catalogue.removal import delete_module, delete_version, unyank, yank

__all__ = [
    "Figures",
    "NetworkVersions",
    "alias_history",
    "alias_out",
    "certificate_out",
    "compose_document",
    "delete_alias",
    "delete_module",
    "delete_version",
    "figures",
    "find_module",
    "get_module",
    "keep_probes",
    "keep_replays",
    "lineage",
    "list_aliases",
    "list_modules",
    "list_versions",
    "module_etag",
    "module_out",
    "network_parts",
    "networks_of",
    "networks_with_task",
    "probes_of",
    "publish",
    "resolve",
    "rollback_alias",
    "served_categories",
    "served_networks",
    "set_alias",
    "sharing",
    "still_there",
    "teacher_tasks",
    "teachers_of",
    "unyank",
    "update_module",
    "version_numbers",
    "version_out",
    "versions_out",
    "yank",
]
