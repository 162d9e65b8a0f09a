"""What a container engine would refuse, or a reviewer would, in Dockerfiles and compose files:

Dockerfile: a stage that does not exist, a COPY of what is not in the project, an image without a
fixed tag, a last stage that runs as root, CMD/ENTRYPOINT/HEALTHCHECK that need a shell.
Compose: names of services, volumes, networks, configs and secrets that nothing declares, waiting for the health of
what has no health check, bind mounts of files that are not there, images without a fixed tag.

    python3 check_container.py FILE...      paths are looked up from the current directory
"""

import re
import shlex
import sys
from pathlib import Path

problems = []


def problem(file, line, text):
    problems.append(f"{file}:{line}: {text}" if line else f"{file}: {text}")


def loose_tag(image):
    """Whether an image can change under us: no tag, or `latest`. Variables are somebody's choice."""
    if "$" in image or "@sha256:" in image or image == "scratch":
        return False
    name, _, tag = image.rpartition(":")
    return not name or "/" in tag or tag == "latest"


# --- Dockerfile -------------------------------------------------------------------------------


def instructions(text):
    """(line, instruction, rest) with continued lines joined, comments and here-documents left out."""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while line.rstrip().endswith("\\"):
            _, more = next(lines, (0, ""))
            if not more.lstrip().startswith("#"):
                line = line.rstrip()[:-1] + " " + more
            else:
                line = line.rstrip()[:-1] + "\\"
        word, _, rest = line.strip().partition(" ")
        for end in re.findall(r"<<-?[\"']?(\w+)", rest):
            for _, more in lines:
                if more.strip() == end:
                    break
        yield number, word.upper(), rest.strip()


def exec_form(rest):
    return rest.startswith("[") and rest.endswith("]")


def check_dockerfile(file):
    stages, user, entry = {}, None, False
    found = False
    for line, word, rest in instructions(Path(file).read_text()):
        if word == "FROM":
            found = True
            user, entry = None, False
            words = [w for w in rest.split() if not w.startswith("--")]
            image = words[0] if words else ""
            inherited = stages.get(image.lower())
            if inherited is not None:
                user, entry = inherited
            elif loose_tag(image):
                problem(file, line, f"{image} has no fixed tag")
            name = words[2].lower() if len(words) == 3 and words[1].upper() == "AS" else str(len(stages))
            current = name
            if "distroless" in image and "nonroot" in image:
                user = "nonroot"
            stages[current] = (user, entry)
        elif word == "USER":
            user = rest.split(":")[0]
            stages[current] = (user, entry)
        elif word in ("CMD", "ENTRYPOINT"):
            entry = True
            stages[current] = (user, entry)
            if not exec_form(rest):
                problem(file, line, f'{word} in shell form: signals do not reach the daemon; write ["..."]')
        elif word == "HEALTHCHECK" and rest != "NONE":
            _, _, command = rest.partition("CMD")
            if not exec_form(command.strip()):
                problem(file, line, 'HEALTHCHECK in shell form needs a shell in the image; write CMD ["..."]')
        elif word in ("COPY", "ADD"):
            check_copy(file, line, rest, stages)
    if not found:
        problem(file, 0, "there is no FROM")
        return
    if user in (None, "root", "0"):
        problem(file, 0, "the last stage runs as root; give it a USER")
    if not entry:
        problem(file, 0, "the last stage has neither ENTRYPOINT nor CMD")


def check_copy(file, line, rest, stages):
    options = dict(re.findall(r"--([a-z-]+)=(\S+)", rest))
    if "from" in options:
        source = options["from"].lower()
        if source not in stages and not re.search(r"[/:@$]", source):
            problem(file, line, f"there is no stage {source} before this line")
        return
    rest = re.sub(r"^(--\S+\s+)+", "", rest)
    if "<<" in rest or rest.startswith("["):
        return
    try:
        words = shlex.split(rest)
    except ValueError:
        problem(file, line, "the quotes do not match")
        return
    for source in words[:-1]:
        wanted = source.strip("/.")
        if wanted and "$" not in source and "://" not in source and not any(Path().glob(source.strip("/"))):
            problem(file, line, f"{source} is not in the project")


# --- compose ----------------------------------------------------------------------------------


def check_compose(file):
    text = Path(file).read_text()
    try:
        import yaml
    except ImportError:
        check_compose_lines(file, text)
        return

    class Strict(yaml.SafeLoader):
        """Keys must occur once: YAML's last one would win in silence."""

    def mapping(loader, node):
        seen = set()
        for key, _ in node.value:
            if key.value != "<<" and key.value in seen:
                problem(file, key.start_mark.line + 1, f"{key.value} occurs twice")
            seen.add(key.value)
        loader.flatten_mapping(node)
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        whole = yaml.load(text, Loader=Strict)
    except yaml.YAMLError as error:
        problem(file, 0, f"no YAML: {error}")
        return
    services = whole.get("services") if isinstance(whole, dict) else None
    if not isinstance(services, dict) or not services:
        problem(file, 0, "there are no services")
        return
    for key in whole:
        known = ("name", "version", "services", "volumes", "networks", "configs", "secrets", "include")
        if key not in known and not str(key).startswith("x-"):
            problem(file, 0, f"unknown top-level key {key}")
    for name, service in services.items():
        if not isinstance(service, dict):
            problem(file, 0, f"service {name} is empty")
            continue
        check_service(lambda text, name=name: problem(file, 0, f"service {name}: {text}"), service, whole)


def names(value):
    """The names in a list or a map; in a list of maps, their `source`."""
    return [v.get("source") if isinstance(v, dict) else v for v in value] if isinstance(value, list) else list(value or {})


def check_service(bad, service, whole):
    services = whole["services"]
    build = service.get("build")
    if build is None and "image" not in service and "extends" not in service:
        bad("has neither image nor build")
    if build is None and loose_tag(str(service.get("image", "scratch"))):
        bad(f"{service['image']} has no fixed tag")
    if build is not None:
        build = {"context": build} if isinstance(build, str) else build
        context = Path(build.get("context", "."))
        if "$" not in str(context) and "dockerfile_inline" not in build:
            if not (context / build.get("dockerfile", "Dockerfile")).is_file():
                bad(f"there is no {context / build.get('dockerfile', 'Dockerfile')} to build from")
    if service.get("privileged"):
        bad("is privileged")

    waits = service.get("depends_on") or {}
    for other in waits:
        if other not in services:
            bad(f"depends on {other}, which is no service")
        elif isinstance(waits, dict) and (waits[other] or {}).get("condition") == "service_healthy":
            checked = services[other].get("healthcheck")
            built = services[other].get("build") is not None
            if not built and (not checked or checked.get("disable")):
                bad(f"waits for the health of {other}, which has no health check")
    for kind in ("networks", "configs", "secrets"):
        declared = whole.get(kind) or {}
        for used in names(service.get(kind)):
            if used not in declared and not (kind == "networks" and used == "default"):
                bad(f"{used} is not declared under {kind}")
    for mount in service.get("volumes") or []:
        if isinstance(mount, dict):
            source, kind = mount.get("source"), mount.get("type")
        else:
            source = mount.split(":")[0] if ":" in mount else None
            kind = "bind" if source and source[0] in "./~$" else "volume"
        if kind == "volume" and source and source not in (whole.get("volumes") or {}):
            bad(f"{source} is not declared under volumes")
        if kind == "bind" and source and source.startswith(".") and "$" not in source and not Path(source).exists():
            bad(f"mounts {source}, which is not in the project")
    files = service.get("env_file") or []
    for entry in [files] if isinstance(files, str) else files:
        path = entry.get("path") if isinstance(entry, dict) else entry
        needed = entry.get("required", True) if isinstance(entry, dict) else True
        if needed and "$" not in path and not Path(path).is_file():
            bad(f"reads {path}, which is not in the project")
    for port in service.get("ports") or []:
        if not isinstance(port, dict) and not re.fullmatch(r"([\d.]+:|\[[\da-f:]+\]:)?([\d-]*:)?\d+(-\d+)?(/(tcp|udp))?", re.sub(r"\$\{[^}]*\}", "1", str(port))):
            bad(f"cannot read the port {port}; write it in quotes as \"host:container\"")


def check_compose_lines(file, text):
    """Without PyYAML: the mistakes that need no parser."""
    print("lint-container: PyYAML is not here, the compose file is checked line by line only", file=sys.stderr)
    top = re.findall(r"^([a-z][\w-]*):", text, re.M)
    if "services" not in top:
        problem(file, 0, "there are no services")
    for number, line in enumerate(text.splitlines(), 1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent:
            problem(file, number, "YAML is not indented with tabs")
        image = re.match(r"\s*image:\s*[\"']?([^\s\"'#]+)", line)
        if image and loose_tag(image[1]):
            problem(file, number, f"{image[1]} has no fixed tag")
    for key in sorted({k for k in top if top.count(k) > 1}):
        problem(file, 0, f"{key} occurs twice")


for path in sys.argv[1:]:
    if Path(path).name.startswith("Dockerfile"):
        check_dockerfile(path)
    else:
        check_compose(path)
for text in problems:
    print(text)
sys.exit(1 if problems else 0)
