"""Small Dockerfiles for the comparison with other builders (integration/test_build_peers.py): the same files, modes, owners, config.

The base is `BASE`, busybox in both engines. A case is (name, Dockerfile, words for `build`); the context is `make_context`'s.
"""
from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path

Case = tuple[str, str, tuple[str, ...]]


def make_context(directory: str) -> None:
    """Fill a directory with what the cases copy."""
    files = {
        "a.txt": "a\n", "b.txt": "bb\n", "script.sh": "#!/bin/sh\necho run\n", "dir/one": "1\n", "dir/sub/two": "2\n",
        "dir/sub/three.md": "3\n", "glob/x1.log": "x1", "glob/x2.log": "x2", "glob/y1.txt": "y1", "odd name/with blank": "w",
        "[brackets]": "b", ".hidden": "h", "skip/secret": "s", "skip/keep.txt": "k", "deep/a/b/c/d.txt": "d", "deep/a/e.md": "e",
        ".dockerignore": "skip\n!skip/keep.txt\n**/*.md\n",
    }
    for name, text in files.items():
        os.makedirs(os.path.dirname(f"{directory}/{name}") or directory, exist_ok=True)
        with open(f"{directory}/{name}", "w") as stream:
            stream.write(text)
    os.chmod(f"{directory}/script.sh", 0o755)
    os.chmod(f"{directory}/b.txt", 0o600)
    os.chmod(f"{directory}/dir/sub", 0o700)
    os.symlink("a.txt", f"{directory}/link")
    os.symlink("sub/two", f"{directory}/dir/inner")
    os.symlink("dir", f"{directory}/dirlink")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, text, owner, permissions in (("t/file", "in tar", 7, 0o640), ("t/run", "#!/bin/sh\n", 0, 0o755)):
            member = tarfile.TarInfo(path)
            member.size, member.uid, member.gid, member.mode = len(text), owner, owner, permissions
            archive.addfile(member, io.BytesIO(text.encode()))
    data = stream.getvalue()
    # The same bytes each time: two contexts made in different seconds are one.
    for name, packed in (("plain.tar", data), ("packed.tar.gz", gzip.compress(data, mtime=0)), ("packed.tar.xz", lzma.compress(data)),
                         ("packed.tar.bz2", bz2.compress(data))):
        Path(directory, name).write_bytes(packed)
    with open(f"{directory}/notatar.gz", "wb") as stream:
        stream.write(b"\x1f\x8b not really")


def _case(name: str, body: str, *words: str) -> Case:
    return name, body if "from base" in body.lower() or "FROM" in body else f"FROM BASE\n{body}", words


CASES: tuple[Case, ...] = (
    _case("env", "ENV A=1 B=\"two words\" C=three\\ words\nENV D $A-$B\nENV A=2 E=$A"),
    _case("env_old_form", "ENV only one  value here"),
    _case("env_modifiers", "ENV x=abc\nENV a=${x:-no} b=${y:-yes} c=${x:+set} d=${y:+set} e=${y} f=\\$x g='$x' h=\"$x\""),
    _case("env_path", "ENV PATH=/opt/bin:$PATH"),
    _case("env_quotes", "ENV a='single quoted' b=\"double \\\"inner\\\"\" c=un\\\"even d=\"\""),
    _case("arg_default", "ARG v=5\nENV got=$v\nRUN echo $v > /v"),
    _case("arg_given", "ARG v=5\nENV got=$v\nRUN echo $v > /v", "--build-arg", "v=6"),
    _case("arg_before_from", "ARG base=BASE\nFROM $base\nARG base\nLABEL base=$base"),
    _case("arg_unset", "ARG nothing\nENV got=x${nothing}x"),
    _case("arg_env_wins", "ARG v=1\nENV v=2\nRUN echo $v > /v", "--build-arg", "v=3"),
    _case("label", "LABEL a=1 \"b c\"=\"d e\" multi=\"one \\\n two\"\nENV x=y\nLABEL z=$x"),
    _case("label_option", "LABEL a=1", "--label", "a=2", "--label", "more=yes"),
    _case("workdir", "WORKDIR /w/x\nWORKDIR y\nRUN pwd > here"),
    _case("workdir_env", "ENV d=/deep/er\nWORKDIR $d/est\nRUN touch f"),
    _case("workdir_dots", "WORKDIR /a\nWORKDIR b/../c/./d"),
    _case("user", "USER daemon\nRUN id -u > /tmp/id; id -g >> /tmp/id\nUSER 5:6\nRUN id -u > /tmp/uid; id -g > /tmp/gid"),
    _case("cmd_shell", "CMD echo hello"),
    _case("cmd_json", "CMD [\"echo\", \"hello\"]"),
    _case("entrypoint", "CMD [\"a\"]\nENTRYPOINT [\"e\"]"),
    _case("entrypoint_shell", "ENTRYPOINT exec top -b"),
    _case("shell", "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN echo $0 > /zero\nCMD date"),
    _case("expose", "ENV p=90\nEXPOSE 80 443/tcp 53/udp $p 7000-7002"),
    _case("volume", "VOLUME /data\nVOLUME [\"/x y\", \"/z\"]\nVOLUME /m1 /m2"),
    _case("stopsignal", "STOPSIGNAL SIGKILL"),
    _case("healthcheck", "HEALTHCHECK --interval=5s --timeout=3s --start-period=1m --retries=4 CMD curl -f http://localhost"),
    _case("healthcheck_json", "HEALTHCHECK CMD [\"true\"]"),
    _case("healthcheck_none", "HEALTHCHECK NONE"),
    _case("onbuild", "ONBUILD RUN touch /built\nONBUILD COPY a.txt /a"),
    _case("maintainer", "MAINTAINER somebody <a@b>"),
    _case("run", "RUN echo hello > /hello && mkdir /d && chmod 1777 /d && ln -s hello /link && mkfifo /fifo"),
    _case("run_json", "RUN [\"/bin/busybox\", \"touch\", \"/json file\"]"),
    _case("run_continued", "RUN echo a \\\n  # a comment\n  && echo b > /b \\\n\n  && echo c > /c"),
    _case("run_owner", "RUN touch /f && chown 3:4 /f && chmod 4755 /f"),
    _case("run_remove", "RUN rm /etc/group && rm -r /home && mkdir /home && touch /home/new"),
    _case("run_two_layers", "RUN mkdir /x && echo 1 > /x/a && echo 1 > /x/b\nRUN rm /x/a && echo 2 > /x/b"),
    _case("run_hard_link", "RUN echo l > /l1 && ln /l1 /l2"),
    _case("run_variables", "ENV greeting=hi\nRUN for i in 1 2 3; do echo $greeting $i; done > /out"),
    _case("copy_file", "COPY a.txt /a.txt\nCOPY a.txt /new/dir/\nCOPY a.txt /new/name"),
    _case("copy_modes", "COPY script.sh b.txt /m/"),
    _case("copy_relative", "WORKDIR /work\nCOPY a.txt .\nCOPY a.txt sub/\nCOPY a.txt named"),
    _case("copy_directory", "COPY dir /dir\nCOPY dir /into/"),
    _case("copy_directory_merge", "RUN mkdir -p /dir/sub && echo old > /dir/sub/old && echo old > /dir/one\nCOPY dir /dir/"),
    _case("copy_all", "COPY . /all/"),
    _case("copy_all_root", "COPY . /"),
    _case("copy_glob", "COPY glob/*.log /g/\nCOPY glob/x?.log /h/\nCOPY gl*/y1.txt /i/"),
    _case("copy_json", "COPY [\"odd name/with blank\", \"/to here/\"]"),
    _case("copy_chown", "COPY --chown=daemon:nogroup dir /o1\nCOPY --chown=5 a.txt /o2\nCOPY --chown=0:7 a.txt /o3/a"),
    _case("copy_link", "COPY link /l1\nCOPY dirlink /l2/"),
    _case("copy_over_link", "RUN mkdir /real && ln -s /real /soft && echo x > /target && ln -s target /name\nCOPY a.txt /soft/\nCOPY a.txt /name"),
    _case("copy_into_link", "RUN mkdir /real && ln -s real /soft\nCOPY dir /soft"),
    _case("copy_variable", "ENV n=a d=/v\nCOPY $n.txt ${d}/"),
    _case("copy_glob_without_match", "COPY a.txt lock*.json /g/\nCOPY [\"nothing?\", \"dir\", \"/h\"]"),
    _case("copy_glob_and_links", "COPY */one /one"),
    _case("copy_to_nowhere", "RUN ln -s no/where /l1 && ln -s /gone /l2 && ln -s l2/deeper /l3\nCOPY a.txt /l1\nCOPY a.txt /l3/\nCOPY dir /l2/"),
    _case("copy_escaped_glob", "COPY [[]brackets] /b/"),
    _case("copy_hidden", "COPY .hidden /h"),
    _case("copy_replaces", "RUN echo old > /f && chmod 777 /f && chown 9:9 /f\nCOPY a.txt /f"),
    _case("copy_deep", "COPY deep/a /x/\nCOPY deep/a/b/c/d.txt deep/a/b /y/"),
    _case("ignored", "COPY skip /s\nCOPY deep /d"),
    _case("add_tar", "ADD plain.tar /t/"),
    _case("add_gz", "ADD packed.tar.gz /t"),
    _case("add_xz", "ADD packed.tar.xz /t/"),
    _case("add_bz2", "ADD packed.tar.bz2 /t/"),
    _case("add_not_even_compressed", "ADD notatar.gz /x/"),
    _case("healthcheck_none_with_options", "HEALTHCHECK --interval=3s NONE"),
    _case("add_not_tar", "ADD a.txt script.sh /f/"),
    _case("add_directory", "ADD dir /d"),
    _case("copy_tar", "COPY plain.tar /t/"),
    _case("stages", "FROM BASE AS one\nRUN mkdir /o && echo 1 > /o/f && chown 5:5 /o/f\nFROM BASE\nCOPY --from=one /o /p\nCOPY --from=0 /o/f /q"),
    _case("stage_of_stage", "FROM BASE AS one\nENV a=1\nRUN touch /one\nFROM one\nRUN touch /two"),
    _case("stage_target", "FROM BASE AS one\nRUN touch /one\nFROM BASE AS two\nRUN false", "--target", "one"),
    _case("stage_chown", "FROM BASE AS one\nRUN touch /f && chown 5:6 /f\nFROM BASE\nCOPY --from=one --chown=7:8 /f /g"),
    _case("from_image", "COPY --from=BASE /etc/passwd /p"),
    _case("scratch", "FROM scratch\nCOPY a.txt /a\nCOPY dir /d/\nCOPY a.txt /etc/\nENV a=1\nCMD [\"/a\"]"),
    _case("escape", "# escape=`\nFROM BASE\nENV a=one `\n b=two\nRUN echo x `\n > /x"),
    _case("comments", "# a comment\n\n  # another\nFROM BASE\n# between\nENV a 1 # no comment"),
    _case("lower_case", "from BASE\nenv a=1\nrun touch /x"),
    _case("tabs", "FROM BASE\n\tENV\ta=1\n\tRUN\ttouch /x"),
    _case("bad_json", "CMD [ 'single', \"x\" ]"),
    _case("overwrite_config", "ENV A=1\nCMD [\"x\"]\nCMD [\"y\"]\nUSER 1\nUSER 2\nLABEL a=1\nLABEL a=2"),
    _case("dollar_in_cmd", "ENV x=1\nCMD echo $x\nENTRYPOINT [\"sh\", \"-c\", \"$x\"]"),
    _case("volume_blanks", "VOLUME a\\ b c\nUSER a b\nEXPOSE 0"),
    _case("env_in_user_and_volume", "ENV u=daemon v=/vol\nUSER $u\nVOLUME $v\nSTOPSIGNAL ${s:-9}"),
)

#: What both must refuse.
FAILING: tuple[Case, ...] = (
    _case("unknown_instruction", "FROBNICATE x"),
    _case("missing_source", "COPY nothere /x"),
    _case("nothing_matches", "COPY nothing* none? /x/"),
    _case("many_to_file", "COPY a.txt b.txt /x"),
    _case("failing_command", "RUN exit 7"),
    ("no_from", "# nothing\nRUN true", ()),
    _case("unknown_flag", "COPY --frob=1 a.txt /x"),
    _case("unknown_user", "COPY --chown=nobodyknows a.txt /x"),
    _case("ignored_source", "COPY skip/secret /x"),
    _case("bad_signal", "STOPSIGNAL NOPE"),
    _case("bad_target", "FROM BASE AS one", "--target", "two"),
    _case("env_without_value", "ENV a"),
    _case("env_name_substituted_away", "ENV $nothing=x"),
    _case("json_of_numbers", "CMD [1, \"a\"]"),
    _case("volume_empty", "VOLUME []"),
    _case("volume_quotes", "VOLUME \"a b\""),
    _case("copy_quotes", "COPY \"odd name/with blank\" /x/"),
    _case("healthcheck_without_unit", "HEALTHCHECK --interval=1 CMD true"),
    _case("onbuild_chain", "ONBUILD ONBUILD RUN true"),
)
