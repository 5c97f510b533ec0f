/* The configuration: syntax, problems, files, reload, showing. */
#include "config_rig.h"

#include <sys/stat.h>

/* ---- syntax ---- */

static void
test_sections_and_values(void **state)
{
	struct config *c = load_good("# comment\n; comment\n\n"
	    "[Operator]\n  Name =  a = b # no comment \n"
	    "[Queue b]\nType=spool\nPath=/b\n"
	    "[  Queue\t a  ]\nPath=/a\nType=spool\n"
	    "[Pool b]\n");
	const struct config_section *s;

	(void)state;
	assert_string_equal(config_path(c), F);
	assert_string_equal(config_instance(c), "shop");
	s = config_find(c, "Operator", NULL);
	assert_non_null(s);
	assert_ptr_equal(s, config_find(c, "Operator", ""));
	assert_string_equal(config_label(s), "");
	assert_string_equal(config_title(s), "[Operator]");
	assert_string_equal(config_string(s, "Name"), "a = b # no comment");
	s = config_next(c, "Queue", NULL);
	assert_string_equal(config_title(s), "[Queue b]");
	s = config_next(c, "Queue", s);
	assert_string_equal(config_label(s), "a");
	assert_string_equal(config_string(s, "Path"), "/a");
	assert_null(config_next(c, "Queue", s));
	assert_null(config_find(c, "Queue", "c"));
	assert_non_null(config_find(c, "Pool", "b"));
	assert_null(config_next(c, "Nothing", NULL));
	config_unref(c);
}

static void
test_continuation_bom_and_crlf(void **state)
{
	struct config *c = load_good("\xef\xbb\xbf[Operator]\r\n"
	    "Name=one \\\r\n"
	    "# a comment in between\r\n"
	    "   two\\\r\n\tthree\r\n"
	    "LogLevel=debug\r\n"
	    "[Pool p]\nExec=a\\\\\nStrict=no\\");
	const struct config_section *s = config_find(c, "Operator", NULL);

	(void)state;
	assert_string_equal(config_string(s, "Name"), "one  two three");
	assert_string_equal(config_origin(s, "Name"), F ":2");
	assert_string_equal(config_origin(s, "LogLevel"), F ":6");
	s = config_find(c, "Pool", "p");
	/* Two backslashes at the end are one escaped, not a continuation. */
	assert_string_equal(config_words(s, "Exec")[0], "a\\");
	assert_false(config_bool(s, "Strict"));
	config_unref(c);
}

static void
test_broken_lines(void **state)
{
	(void)state;
	EXPECT("Name=early\n[Operator\nName=x\n[]\nName=x\n[Operator]\nnonsense\n"
	    "=x\nName=\xff\nName=a\x1b[0m\n[Oper\x01tor]\nUnknown=not reported\n",
	    F ":1: Name= stands before any [Section]",
	    F ":2: section header without a closing ]",
	    F ":4: section header without a name",
	    F ":7: neither [Section] nor Key=value: the = is missing",
	    F ":8: nothing in front of the =",
	    F ":9: not valid UTF-8",
	    F ":10: control character in the line",
	    F ":11: control character in the line");
	/* Overlong, surrogate, beyond the last, cut short. */
	EXPECT("[Operator]\nName=\xc0\xaf\nName=\xed\xa0\x80\n"
	    "Name=\xf4\x90\x80\x80\nName=\xe2\x82\n",
	    F ":2: not valid UTF-8", F ":3: not valid UTF-8",
	    F ":4: not valid UTF-8", F ":5: not valid UTF-8");
	config_unref(load_good("[Operator]\nName=\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\n"));
}

static void
test_nul_and_long_lines_are_refused(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c = tree_new(F, schema);

	(void)state;
	tree_read(c, F, SLICE("[Operator]\nName=a\0b\nGarbage\n"));
	tree_finish(c);
	assert_int_equal(config_problems(c), 1);
	assert_string_equal(config_problem_text(c, 0),
	    F ":2: NUL byte: this is not a text file");
	config_unref(c);

	/* Long through one line, and through continuations. */
	buffer_add_str(&b, "[Operator]\nName=");
	for (size_t i = 0; i < CONFIG_LINE_MAX; i++)
		buffer_add_char(&b, 'x');
	EXPECT(buffer_cstr(&b),
	    F ":2: line longer than 32768 bytes, continuations included");
	buffer_clear(&b);
	buffer_add_str(&b, "[Operator]\nName=");
	for (size_t i = 0; i < CONFIG_LINE_MAX / 8; i++)
		buffer_add_str(&b, "1234567\\\n");
	EXPECT(buffer_cstr(&b),
	    F ":2: line longer than 32768 bytes, continuations included");
}

static void
test_labels(void **state)
{
	char text[128];

	(void)state;
	EXPECT("[Operator x]\n[Pool]\n[Pool a/b]\n[Pool a b]\n[Pool ..]\n"
	    "[Pool \xc3\xbc]\n",
	    F ":1: [Operator x]: this section takes no name; write [Operator]",
	    F ":2: [Pool]: the name is missing; write [Pool NAME]",
	    F ":3: [Pool a/b]: a name has letters, digits, _ . and - only",
	    F ":4: [Pool a b]: a name has letters, digits, _ . and - only",
	    F ":5: [Pool ..]: a name has letters, digits, _ . and - only",
	    F ":6: [Pool \xc3\xbc]: a name has letters, digits, _ . and - only");
	/* 64 bytes are a name, 65 are not. */
	snprintf(text, sizeof(text), "[Pool %064d]\n", 1);
	config_unref(load_good(text));
	snprintf(text, sizeof(text), "[Pool %065d]\n", 1);
	{
		struct config *c = load(text);

		assert_int_equal(config_problems(c), 1);
		assert_non_null(strstr(config_problem_text(c, 0),
		    "longer than 64 bytes"));
		config_unref(c);
	}
}

/* ---- problems ---- */

static void
test_invariant_9_typo_is_an_error(void **state)
{
	(void)state;
	/* Section, key, unit, choice, type: where, what, and what is meant. */
	EXPECT("[Quue orders]\nType=redis\n"
	    "[Operater]\nAnything=goes unreported here\n"
	    "[Queue orders]\nType=redis\nAdress=127.0.0.1:6379\n"
	    "Address=127.0.0.1:6379\nmode=list\nMode=steam\nBackoff=2s-5mn\n"
	    "MaxBytes=64Kb\nRateLimit=5/secnd\nMaxAttempts=5x\nBogusness=1\n"
	    "[Queue b]\nType=redsi\n",
	    F ":1: unknown section [Quue]; did you mean \"Queue\"?",
	    F ":3: unknown section [Operater]; did you mean \"Operator\"?",
	    F ":7: [Queue orders]: unknown key \"Adress\"; did you mean "
	    "\"Address\"?",
	    F ":9: [Queue orders]: unknown key \"mode\"; did you mean "
	    "\"Mode\"?",
	    F ":10: [Queue orders]: Mode=steam: unknown value \"steam\"; did "
	    "you mean \"stream\"?; known: stream list sidekiq",
	    F ":11: [Queue orders]: Backoff=2s-5mn: unknown unit \"mn\"; did "
	    "you mean \"min\"?; known: us ms s min h d w",
	    F ":12: [Queue orders]: MaxBytes=64Kb: unknown unit \"Kb\"; did "
	    "you mean \"KB\"?; known: K M G T",
	    F ":13: [Queue orders]: RateLimit=5/secnd: unknown unit \"secnd\"; "
	    "did you mean \"second\"?; known: us ms s min h d w",
	    F ":14: [Queue orders]: MaxAttempts=5x: expected a whole number "
	    "without a unit",
	    F ":15: [Queue orders]: unknown key \"Bogusness\"",
	    F ":17: [Queue b]: Type=redsi: unknown value \"redsi\"; did you "
	    "mean \"redis\"?; known: spool redis rabbitmq");
}

static void
test_keys_of_others(void **state)
{
	(void)state;
	EXPECT("[Queue a]\nType=spool\nPath=/x\nAddress=h:1\nMode=list\n"
	    "Workers=3\n",
	    F ":4: [Queue a]: key Address= belongs to Type=redis and "
	    "Type=rabbitmq; this is Type=spool",
	    F ":5: [Queue a]: key Mode= belongs to Type=redis; this is "
	    "Type=spool",
	    F ":6: [Queue a]: unknown key \"Workers\"; it belongs to "
	    "[Pool NAME]");
}

static void
test_type_is_required_and_may_come_late(void **state)
{
	struct config *c;

	(void)state;
	/* While the type is unknown every type's keys are taken, no others. */
	EXPECT("[Queue a]\nPath=/x\nMode=list\nTypo=1\n",
	    F ":1: [Queue a]: Type= is missing; known: spool redis rabbitmq",
	    F ":4: [Queue a]: unknown key \"Typo\"; did you mean \"Type\"?");
	EXPECT("[Queue a]\nPath=/x\nTypo=1\n[Queue a]\nType=spool\n",
	    F ":3: [Queue a]: unknown key \"Typo\"; did you mean \"Type\"?");
	c = load_good("[Queue a]\nAddress=h:1\nType=redis\n");
	assert_string_equal(config_string(config_find(c, "Queue", "a"), "Type"),
	    "redis");
	assert_int_equal(config_choice(config_find(c, "Queue", "a"), "Type"), 1);
	config_unref(c);
}

static void
test_required_keys_are_named(void **state)
{
	(void)state;
	EXPECT("[Queue a]\nType=redis\n[Queue b]\nType=spool\nPath=/x\nPath=\n"
	    "[Queue c]\nType=redis\nAddress=a:b:c\n",
	    F ":1: [Queue a]: Address= is missing",
	    F ":3: [Queue b]: Path= is missing",
	    /* Not "missing" too: it is there, only wrong. */
	    F ":9: [Queue c]: Address=a:b:c: more than one colon; write "
	    "host:port or [IPv6]:port");
}

static void
test_problems_are_bounded(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *c;
	const char *last;

	(void)state;
	for (int i = 0; i < 1000; i++)
		buffer_add_str(&b, "garbage\n");
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), CONFIG_PROBLEMS_MAX);
	last = config_problem_text(c, CONFIG_PROBLEMS_MAX - 1);
	assert_non_null(strstr(last, "; and 800 more problems"));
	config_unref(c);

	buffer_clear(&b);
	for (int i = 0; i < 1030; i++)
		buffer_printf(&b, "[Pool p%d]\n", i);
	c = load(buffer_cstr(&b));
	assert_int_equal(config_problems(c), 6);
	assert_string_equal(config_problem_text(c, 0),
	    F ":1025: more than 1024 sections");
	config_unref(c);
}

static void
test_problem_from_outside(void **state)
{
	struct config *c = load_good("[Queue a]\nType=spool\nPath=/x\nPool=p\n");
	const struct config_section *s = config_find(c, "Queue", "a");

	(void)state;
	config_problem(c, s, "Pool", "there is no [Pool %s]", "p");
	config_problem(c, s, "RateLimit", "not set");
	config_problem(c, s, NULL, "as a whole\n\x1b[0m");
	config_problem(c, NULL, NULL, "nothing to do");
	assert_int_equal(config_problems(c), 4);
	assert_string_equal(config_problem_text(c, 0),
	    F ":4: [Queue a]: there is no [Pool p]");
	assert_string_equal(config_problem_text(c, 1),
	    F ":1: [Queue a]: not set");
	assert_string_equal(config_problem_text(c, 2),
	    F ":1: [Queue a]: as a whole??[0m");
	assert_string_equal(config_problem_text(c, 3), F ": nothing to do");
	config_unref(c);
}

static void
test_suggest(void **state)
{
	static const char *const names[] = { "orders", "mail", "x" };

	(void)state;
	assert_string_equal(config_suggest("ordres", names, 3), "orders");
	assert_string_equal(config_suggest("ORDERS", names, 3), "orders");
	assert_string_equal(config_suggest("mial", names, 3), "mail");
	assert_string_equal(config_suggest("ordr", names, 3), "orders");
	assert_null(config_suggest("billing", names, 3));
	assert_null(config_suggest("y", names, 3));
	assert_null(config_suggest("", names, 3));
	assert_null(config_suggest("orders", names, 0));
	assert_null(config_suggest("a name that is far too long to be a typo "
	    "of anything that we know or may know", names, 3));
}

/* ---- files ---- */

struct folder {
	char dir[64];
	char conf[96];
};

static int
folder_setup(void **state)
{
	struct folder *f = new0(struct folder);

	snprintf(f->dir, sizeof(f->dir), "/tmp/bot-config-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->conf, sizeof(f->conf), "%s/shop.conf", f->dir);
	*state = f;
	return 0;
}

static int
folder_teardown(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *command = xasprintf("rm -rf '%s'", f->dir);
	int r = system(command);

	free(f);
	return r;
}

static void
put(const struct folder *f, const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", f->dir, name);
	FILE *out = fopen(path, "we");

	assert_non_null(out);
	assert_int_equal(fputs(text, out) < 0, 0);
	assert_int_equal(fclose(out), 0);
}

static char *
in(const struct folder *f, const char *name)
{
	return xasprintf("%s/%s", f->dir, name);
}

static void
expect_problem(const struct config *c, size_t i, const struct folder *f,
    const char *rest)
{
	_cleanup_free_ char *want = xasprintf("%s/%s", f->dir, rest);

	assert_true(config_problems(c) > i);
	assert_string_equal(config_problem_text(c, i), want);
}

static void
test_drop_ins(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	_cleanup_free_ char *null = in(f, "shop.conf.d/30-masked.conf");
	_cleanup_free_ char *origin = in(f, "shop.conf.d/20-b.conf:2");
	_cleanup_free_ char *data = in(f, "data");
	const struct config_section *s;
	struct config *c;

	assert_int_equal(mkdir(d, 0700), 0);
	put(f, "shop.conf", "[Queue a]\nType=spool\nPath=data\nMaxAttempts=3\n"
	    "[Pool p]\nExec=x\n");
	put(f, "shop.conf.d/10-a.conf", "[Queue a]\nMaxAttempts=4\n"
	    "[Pool p]\nExec=a\nStrict=no\n");
	put(f, "shop.conf.d/20-b.conf", "[Queue a]\nMaxAttempts=9\n"
	    "[Pool p]\nExec=b\n[Pool new]\n");
	put(f, "shop.conf.d/.hidden.conf", "garbage\n");
	put(f, "shop.conf.d/readme.txt", "garbage\n");
	put(f, "shop.conf.d/.conf", "garbage\n");
	assert_int_equal(symlink("/dev/null", null), 0);

	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 0);
	s = config_find(c, "Queue", "a");
	assert_int_equal(config_unsigned(s, "MaxAttempts"), 9);
	assert_string_equal(config_origin(s, "MaxAttempts"), origin);
	/* Beside the main file, whoever wrote it. */
	assert_string_equal(config_string(s, "Path"), data);
	s = config_find(c, "Pool", "p");
	assert_false(config_bool(s, "Strict"));
	assert_string_equal(config_words(s, "Exec")[0], "x");
	assert_string_equal(config_words(s, "Exec")[1], "a");
	assert_string_equal(config_words(s, "Exec")[2], "b");
	assert_non_null(config_find(c, "Pool", "new"));
	config_unref(c);

	/* Problems in the order of files and lines. */
	put(f, "shop.conf", "[Queue a]\nPath=x\nMaxAttempts=3x\n[Nope]\n");
	put(f, "shop.conf.d/10-a.conf", "Strict=1\n[Queue a]\nType=spool\n"
	    "MaxAttempts=0\n");
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 4);
	expect_problem(c, 0, f, "shop.conf:3: [Queue a]: MaxAttempts=3x: "
	    "expected a whole number without a unit");
	expect_problem(c, 1, f, "shop.conf:4: unknown section [Nope]");
	expect_problem(c, 2, f, "shop.conf.d/10-a.conf:1: Strict= stands "
	    "before any [Section]");
	expect_problem(c, 3, f, "shop.conf.d/10-a.conf:4: [Queue a]: "
	    "MaxAttempts=0: out of range: 1 to 1000");
	config_unref(c);
}

static void
test_drop_in_may_change_the_type(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	struct config *c;

	assert_int_equal(mkdir(d, 0700), 0);
	put(f, "shop.conf", "[Queue a]\nType=spool\nPath=/x\n");
	put(f, "shop.conf.d/a.conf", "[Queue a]\nType=redis\nAddress=h:1\n");
	c = config_load(f->conf, schema);
	/* A leftover of the other type is as wrong as any unknown key. */
	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf:3: [Queue a]: key Path= belongs to "
	    "Type=spool; this is Type=redis");
	config_unref(c);
}

static void
test_files_that_cannot_be_read(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	_cleanup_free_ char *fifo = in(f, "shop.conf.d/fifo.conf");
	_cleanup_free_ char *sub = in(f, "shop.conf.d/sub.conf");
	_cleanup_free_ char *gone = in(f, "shop.conf.d/zz.conf");
	struct config *c = config_load(f->conf, schema);

	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf: cannot read: No such file or "
	    "directory");
	config_unref(c);

	put(f, "shop.conf", "[Operator]\n");
	assert_int_equal(mkdir(d, 0700), 0);
	assert_int_equal(mkdir(sub, 0700), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(symlink("/nonexistent/file", gone), 0);
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 3);
	expect_problem(c, 0, f, "shop.conf.d/fifo.conf: cannot read: not a "
	    "regular file");
	expect_problem(c, 1, f, "shop.conf.d/sub.conf: cannot read: Is a "
	    "directory");
	expect_problem(c, 2, f, "shop.conf.d/zz.conf: cannot read: No such "
	    "file or directory");
	config_unref(c);
}

static void
test_files_are_bounded(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *d = in(f, "shop.conf.d");
	struct config *c;
	char name[64];

	put(f, "shop.conf", "[Operator]\n");
	assert_int_equal(truncate(f->conf, (off_t)CONFIG_FILE_MAX + 1), 0);
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf: longer than 1048576 bytes");
	config_unref(c);

	put(f, "shop.conf", "[Operator]\n");
	assert_int_equal(mkdir(d, 0700), 0);
	for (size_t i = 0; i <= CONFIG_FILES_MAX; i++) {
		snprintf(name, sizeof(name), "shop.conf.d/%03zu.conf", i);
		put(f, name, "[Operator]\nName=x\n");
	}
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 1);
	expect_problem(c, 0, f, "shop.conf.d: more than 256 files");
	config_unref(c);
	/* name holds the last one: without it they are few enough. */
	{
		_cleanup_free_ char *last = in(f, name);

		assert_int_equal(unlink(last), 0);
	}
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 0);
	config_unref(c);
}

static void
test_relative_to_the_file_not_the_link(void **state)
{
	struct folder *f = *state;
	_cleanup_free_ char *real_dir = in(f, "real");
	_cleanup_free_ char *real = in(f, "real/other.conf");
	_cleanup_free_ char *want = in(f, "real/data");
	struct config *c;

	assert_int_equal(mkdir(real_dir, 0700), 0);
	put(f, "real/other.conf", "[Queue a]\nType=spool\nPath=./data\n");
	assert_int_equal(symlink(real, f->conf), 0);
	c = config_load(f->conf, schema);
	assert_int_equal(config_problems(c), 0);
	assert_string_equal(config_string(config_find(c, "Queue", "a"), "Path"),
	    want);
	/* But it is called what it was called. */
	assert_string_equal(config_instance(c), "shop");
	assert_string_equal(config_path(c), f->conf);
	config_unref(c);
}

/* ---- reload, show, manual ---- */

static enum config_change
compare(const char *a, const char *b)
{
	struct config *one = load_good(a), *two = load_good(b);
	enum config_change change = config_compare(
	    config_find(one, "Queue", "a"), config_find(two, "Queue", "a"));

	config_unref(one);
	config_unref(two);
	return change;
}

#define REDIS	"[Queue a]\nType=redis\nAddress=h:1\n"

static void
test_compare(void **state)
{
	(void)state;
	assert_int_equal(compare(REDIS, REDIS), CONFIG_SAME);
	/* By meaning, wherever and however it is written. */
	assert_int_equal(compare(REDIS, "# x\n[Queue a]\nAddress=h:1\n"
	    "MaxAttempts=5\nBackoff=2000ms-300s\nMode=stream\nType=redis\n"
	    "MaxBytes=262144\n"), CONFIG_SAME);
	assert_int_equal(compare(REDIS, REDIS "MaxAttempts=6\n"),
	    CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS, REDIS "RateLimit=5/s\n"),
	    CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS "RateLimit=5/s\n",
	    REDIS "RateLimit=300/min\n"), CONFIG_SAME);
	assert_int_equal(compare(REDIS "RateLimit=5/s\n",
	    REDIS "RateLimit=6/s\n"), CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS, REDIS "Backoff=2s-6min\n"),
	    CONFIG_RELOADABLE);
	assert_int_equal(compare(REDIS, REDIS "Mode=list\n"), CONFIG_CHANGED);
	/* One that does not reload decides. */
	assert_int_equal(compare(REDIS, REDIS "MaxAttempts=6\nPool=x\n"),
	    CONFIG_CHANGED);
	assert_int_equal(compare(REDIS, "[Queue a]\nType=rabbitmq\n"
	    "Address=h:1\n"), CONFIG_CHANGED);
	assert_int_equal(compare("[Queue a]\nType=spool\nPath=h:1\n",
	    "[Queue a]\nType=rabbitmq\nAddress=h:1\n"), CONFIG_CHANGED);
}

static void
test_compare_words_and_kinds(void **state)
{
	struct config *c = load_good("[Pool a]\nExec=x y\n[Pool b]\nExec='x y'\n"
	    "[Pool c]\nExec=x\nExec=y\n[Operator]\n");

	(void)state;
	assert_int_equal(config_compare(config_find(c, "Pool", "a"),
	    config_find(c, "Pool", "c")), CONFIG_SAME);
	assert_int_equal(config_compare(config_find(c, "Pool", "a"),
	    config_find(c, "Pool", "b")), CONFIG_CHANGED);
	assert_int_equal(config_compare(config_find(c, "Pool", "a"),
	    config_find(c, "Operator", NULL)), CONFIG_CHANGED);
	config_unref(c);
}

static void
test_show_can_be_read_again(void **state)
{
	struct config *c = load_good("[Operator]\nName=a%%b \\ c\n"
	    "[Pool p]\nExec=a 'b c' \"\" \\\"q\\\" 100%% '$x' 'e\\'\n"
	    REDIS "PasswordFile=secret\n");
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *again;

	(void)state;
	config_show(c, &b, false);
	assert_string_equal(buffer_cstr(&b), "[Operator]\nName=a%%b \\ c\n"
	    "Status=\nState=/var/lib/bot-operator\nDrainTimeout=30s\n"
	    "LogLevel=info\n\n"
	    "[Pool p]\nWorkers=1-4\nExec=a \"b c\" \"\" \"\\\"q\\\"\" 100%% "
	    "\"\\$x\" \"e\\\\\"\nEnvironment=A=1 B=2\nMemoryMax=\nStrict=yes\nQuota=\n\n"
	    "[Queue a]\nType=redis\nPool=\nMaxAttempts=5\nBackoff=2s-5min\n"
	    "RateLimit=\nMaxBytes=256K\nAddress=h:1\n"
	    "PasswordFile=/etc/bot-operator/secret\nMode=stream\nKey=\n");
	again = load_good(buffer_cstr(&b));
	assert_int_equal(config_compare(config_find(c, "Operator", NULL),
	    config_find(again, "Operator", NULL)), CONFIG_SAME);
	assert_int_equal(config_compare(config_find(c, "Pool", "p"),
	    config_find(again, "Pool", "p")), CONFIG_SAME);
	assert_int_equal(config_compare(config_find(c, "Queue", "a"),
	    config_find(again, "Queue", "a")), CONFIG_SAME);
	config_unref(again);

	buffer_clear(&b);
	config_show(c, &b, true);
	assert_non_null(strstr(buffer_cstr(&b),
	    "[Queue a]\n# " F ":6\nType=redis\n# default\nPool=\n"));
	assert_non_null(strstr(buffer_cstr(&b), "# " F ":7\nAddress=h:1\n"));
	config_unref(load_good(buffer_cstr(&b)));
	config_unref(c);
}

static void
test_show_keeps_odd_ends_of_paths(void **state)
{
	struct config *c = load_good("[Operator]\nState=/blank /\n"
	    "[Queue a]\nType=spool\nPath=/back\\/\n");
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct config *again;

	(void)state;
	config_show(c, &b, false);
	again = load_good(buffer_cstr(&b));
	assert_string_equal(config_string(config_find(again, "Operator", NULL),
	    "State"), "/blank ");
	assert_string_equal(config_string(config_find(again, "Queue", "a"),
	    "Path"), "/back\\");
	config_unref(again);
	config_unref(c);
}

static void
test_manual(void **state)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *text;

	(void)state;
	config_manual(schema, &b);
	text = buffer_cstr(&b);
	assert_non_null(strstr(text, ".SH [Operator]\nThe \\edaemon.\n.TP\n"));
	assert_non_null(strstr(text, ".SH [Queue NAME]\n"
	    "\\&.starts with a point\n.TP\n.B Type=\n"));
	assert_non_null(strstr(text, ".B DrainTimeout=\nHow long \\- at most.\n"
	    ".br\nValue: time span; at least 1ms.\nDefault: 30s.\n"
	    "A reload applies it in place.\n"));
	assert_non_null(strstr(text, "Value: one of spool, redis, rabbitmq.\n"
	    "Required.\n"));
	assert_non_null(strstr(text, ".SS [Queue NAME] with Type=redis\n"
	    "Redis.\n.TP\n.B Address=\n"));
	assert_non_null(strstr(text, "Value: size in bytes, with K, M, G or T; "
	    "1 to 64M.\nDefault: 256K.\n"));
	assert_non_null(strstr(text, "Value: path of a file with a secret.\n"
	    "Not set by default.\n"));
	/* Every key has its place. */
	for (size_t i = 0; schema[i] != NULL; i++) {
		for (size_t k = 0; k < schema[i]->nkeys; k++) {
			_cleanup_free_ char *row = xasprintf(".TP\n.B %s=\n",
			    schema[i]->keys[k].name);

			assert_non_null(strstr(text, row));
		}
	}
}

static void
test_references(void **state)
{
	struct config *c = load_good("[Operator]\nName=kept\n");

	(void)state;
	assert_ptr_equal(config_ref(c), c);
	config_unref(c);
	assert_string_equal(config_string(config_find(c, "Operator", NULL),
	    "Name"), "kept");
	config_unref(c);
	config_unref(NULL);
}

int
main(void)
{
#define IN_FOLDER(fn) \
	cmocka_unit_test_setup_teardown(fn, folder_setup, folder_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections_and_values),
		cmocka_unit_test(test_continuation_bom_and_crlf),
		cmocka_unit_test(test_broken_lines),
		cmocka_unit_test(test_nul_and_long_lines_are_refused),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_invariant_9_typo_is_an_error),
		cmocka_unit_test(test_keys_of_others),
		cmocka_unit_test(test_type_is_required_and_may_come_late),
		cmocka_unit_test(test_required_keys_are_named),
		cmocka_unit_test(test_problems_are_bounded),
		cmocka_unit_test(test_problem_from_outside),
		cmocka_unit_test(test_suggest),
		IN_FOLDER(test_drop_ins),
		IN_FOLDER(test_drop_in_may_change_the_type),
		IN_FOLDER(test_files_that_cannot_be_read),
		IN_FOLDER(test_files_are_bounded),
		IN_FOLDER(test_relative_to_the_file_not_the_link),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_compare_words_and_kinds),
		cmocka_unit_test(test_show_can_be_read_again),
		cmocka_unit_test(test_show_keeps_odd_ends_of_paths),
		cmocka_unit_test(test_manual),
		cmocka_unit_test(test_references),
	};

	config_rig_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
