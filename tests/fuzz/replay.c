/*
 * replay.c - a main for fuzz targets where libFuzzer is not there.
 *
 * Runs every file of the directories (or the files) given; without arguments,
 * the checked-in corpus of the target, found by the program's name.  What a
 * target finds wrong ends the process, as under the fuzzer.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static size_t inputs;

static int
run_file(const char *path)
{
	_cleanup_free_ char *data = NULL;
	size_t n = 0, size = 4096, got;
	FILE *f = fopen(path, "rbe");

	if (f == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	data = xmalloc(size);
	while ((got = fread(data + n, 1, size - n, f)) != 0)
		if ((n += got) == size)
			data = xrealloc(data, size *= 2);
	(void)fclose(f);
	/* Exactly as long as the input, so that an overrun is seen. */
	data = xrealloc(data, n);
	(void)LLVMFuzzerTestOneInput((const uint8_t *)data, n);
	inputs++;
	return 0;
}

static int
run_path(const char *path)
{
	struct dirent **names;
	struct stat st;
	int n, rc = 0;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path);
	n = scandir(path, &names, NULL, alphasort);
	if (n < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			_cleanup_free_ char *child =
			    xasprintf("%s/%s", path, names[i]->d_name);

			if (run_file(child) < 0)
				rc = -1;
		}
		free(names[i]);
	}
	free(names);
	return rc;
}

int
main(int argc, char **argv)
{
	int rc = 0;

	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			if (run_path(argv[i]) < 0)
				rc = -1;
	} else {
		const char *srcdir = getenv("srcdir");
		const char *name = strrchr(argv[0], '/');
		_cleanup_free_ char *dir = NULL;

		name = name != NULL ? name + 1 : argv[0];
		if (strncmp(name, "fuzz_", 5) == 0)
			name += 5;
		dir = xasprintf("%s/tests/fuzz/corpus/%s",
		    srcdir != NULL ? srcdir : ".", name);
		rc = run_path(dir);
	}
	if (inputs == 0) {
		fprintf(stderr, "no inputs\n");
		return 1;
	}
	printf("%zu inputs\n", inputs);
	return rc < 0 ? 1 : 0;
}
