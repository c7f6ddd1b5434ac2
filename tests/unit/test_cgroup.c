/* SPDX-License-Identifier: MIT */
/*
 * test_cgroup.c - the memory limit of a control group, from a made-up /proc and
 * the mounts it tells of.
 *
 * A limit that is not understood is none: a process that takes too much is told
 * by its system, one that takes too little by nobody.
 */
#include "test.h"

#include "os/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char tree[64];

/* @text as the file @path of the tree, with the folders that lead there. */
static void
tree_write(const char *path, const char *text)
{
	char whole[4096];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s%s", tree, path);
	for (char *at = whole + strlen(tree) + 1;
	     (at = strchr(at, '/')) != NULL; at++) {
		*at = '\0';
		(void)mkdir(whole, 0755);
		*at = '/';
	}
	file = fopen(whole, "w");
	CHECK_NOT_NULL(file);
	fputs(text, file);
	fclose(file);
}

static void
tree_make(void)
{
	snprintf(tree, sizeof(tree), "/tmp/weir-tree-XXXXXX");
	CHECK_NOT_NULL(mkdtemp(tree));
}

static void
tree_remove(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", tree);
	CHECK_EQ(system(command), 0);
}

static uint64_t
limit_of(const char *groups, const char *mounts)
{
	tree_write("/proc/self/cgroup", groups);
	tree_write("/proc/self/mountinfo", mounts);
	return weiri_os_cgroup_limit(tree);
}

/* ---- as one expects -------------------------------------------------- */

#define CGROUP2_MOUNT                           \
	"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" \
	"31 22 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 none rw\n"

TEST(cgroup_limit_is_the_lowest_on_the_way_up)
{
	tree_make();
	tree_write("/sys/fs/cgroup/a/b/memory.max", "max\n");
	tree_write("/sys/fs/cgroup/a/memory.max", "1000000\n");
	CHECK_EQ(limit_of("0::/a/b\n", CGROUP2_MOUNT), 1000000);
	tree_write("/sys/fs/cgroup/a/b/memory.max", "999\n");
	CHECK_EQ(limit_of("0::/a/b\n", CGROUP2_MOUNT), 999);
	tree_write("/sys/fs/cgroup/memory.max", "12\n");
	CHECK_EQ(limit_of("0::/a/b\n", CGROUP2_MOUNT), 12);
	CHECK_EQ(limit_of("0::/\n", CGROUP2_MOUNT), 12);
	/* Above the mount point nothing is asked. */
	tree_write("/sys/fs/memory.max", "1\n");
	CHECK_EQ(limit_of("0::/a/b\n", CGROUP2_MOUNT), 12);
	tree_remove();
}

TEST(cgroup_without_limit_or_with_nonsense_is_unlimited)
{
	tree_make();
	CHECK_EQ(weiri_os_cgroup_limit(tree), UINT64_MAX);
	CHECK_EQ(limit_of("", ""), UINT64_MAX);
	CHECK_EQ(limit_of("0::/a\n", CGROUP2_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/a/memory.max", "max\n");
	CHECK_EQ(limit_of("0::/a\n", CGROUP2_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/a/memory.max", "12x\n");
	CHECK_EQ(limit_of("0::/a\n", CGROUP2_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/a/memory.max", "-5\n");
	CHECK_EQ(limit_of("0::/a\n", CGROUP2_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/a/memory.max", "");
	CHECK_EQ(limit_of("0::/a\n", CGROUP2_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/a/memory.max",
	    "99999999999999999999999999999999999\n");
	CHECK_EQ(limit_of("0::/a\n", CGROUP2_MOUNT), UINT64_MAX);
	CHECK_EQ(
	    limit_of("no colon\n0:one\n\n", "\n1 2\nrubbish - x"), UINT64_MAX);
	tree_remove();
}

TEST(cgroup_version_1_is_read_through_the_mount_of_its_container)
{
	static const char mounts[] =
	    "22 1 8:1 / / rw - overlay none rw\n"
	    "30 22 0:26 /docker/4f1b /sys/fs/cgroup/cpu rw - cgroup cg rw,cpu\n"
	    "31 22 0:27 /docker/4f1b /sys/fs/cgroup/mem\\040ory rw "
	    "master:3 - cgroup cgroup rw,memory\n";

	tree_make();
	tree_write("/sys/fs/cgroup/mem ory/memory.limit_in_bytes", "5000\n");
	tree_write("/sys/fs/cgroup/mem ory/in/memory.limit_in_bytes",
	    "9223372036854771712\n");
	CHECK_EQ(
	    limit_of("3:cpu:/x\n9:hugetlb,memory:/docker/4f1b\n0::/\n", mounts),
	    5000);
	CHECK_EQ(limit_of("9:memory:/docker/4f1b/in\n", mounts), 5000);
	/* A group that the mount does not show: its root is all there is. */
	CHECK_EQ(limit_of("9:memory:/docker/4f1bcd\n", mounts), 5000);
	/* The v2 hierarchy beside it has no memory controller. */
	CHECK_EQ(limit_of("0::/\n9:memory:/docker/4f1b\n", mounts), 5000);
	tree_remove();
}

TEST(cgroup_paths_beyond_every_buffer_are_no_limit)
{
	char groups[4096];

	tree_make();
	memset(groups, 'a', sizeof(groups));
	memcpy(groups, "0::/", 4);
	groups[sizeof(groups) - 1] = '\0';
	CHECK_EQ(limit_of(groups, CGROUP2_MOUNT), UINT64_MAX);
	tree_remove();
}

/* ---- as nobody expects ------------------------------------------------ */

#define GROUP_MOUNT "31 22 0:27 / /sys/fs/cgroup rw - cgroup2 none rw\n"

TEST(cgroup_without_mounts_is_unlimited)
{
	tree_make();
	tree_write("/proc/self/cgroup", "0::/a\n");
	CHECK_EQ(weiri_os_cgroup_limit(tree), UINT64_MAX);
	CHECK_EQ(limit_of("0::/a\n", ""), UINT64_MAX);
	tree_remove();
}

TEST(cgroup_lines_that_are_cut_short_are_passed_over)
{
	static const char mounts[] = "\n"
				     "1\n1 2\n1 2 3\n1 2 3 4\n1 2 3 4 5\n"
				     "1 2 0:1 / /nothing rw\n"
				     "1 2 0:1 / /nothing rw - cgroup2\n"
				     "1 2 0:1 / /nothing rw - cgroup \n"
				     "1 2 0:1 / /nothing rw - ext4 none rw\n";
	char all[sizeof(mounts) + sizeof(GROUP_MOUNT)];

	tree_make();
	tree_write("/sys/fs/cgroup/a/memory.max", "777\n");
	CHECK_EQ(limit_of("0::/a\n", mounts), UINT64_MAX);
	snprintf(all, sizeof(all), "%s%s", mounts, GROUP_MOUNT);
	CHECK_EQ(limit_of("0::/a\n", all), 777);
	/* The last line may end with the file. */
	all[strlen(all) - 1] = '\0';
	CHECK_EQ(limit_of("\n5\n0::/a", all), 777);
	tree_remove();
}

/* A controller is a word: neither the beginning nor the end of one. */
TEST(cgroup_controller_is_a_whole_word)
{
	static const char mounts[] =
	    "1 2 0:1 / /m rw - cgroup none rw,memory_x,xmemory\n"
	    "2 2 0:1 / /n rw - cgroup none rw,memory,cpu\n";

	tree_make();
	tree_write("/m/memory.limit_in_bytes", "1000\n");
	tree_write("/n/memory.limit_in_bytes", "2000\n");
	CHECK_EQ(limit_of("4:memoryless,x:/a\n", mounts), UINT64_MAX);
	CHECK_EQ(limit_of("4:cpu,memory:/\n", mounts), 2000);
	/* A mount of version 2 is not that of a group of version 1. */
	CHECK_EQ(limit_of("4:memory:/\n", GROUP_MOUNT), UINT64_MAX);
	tree_remove();
}

/* Blanks are written as three octal digits; what only looks like it is not. */
TEST(cgroup_path_with_a_backslash_is_what_it_says)
{
	static const char *const plain[] = {"\\4", "\\\\", "\\040x\\", "\\08a",
	    "\\008", "\\0x0", "\\00x", "\\/40"};
	char mounts[256], path[256];

	tree_make();
	tree_write("/a b/memory.max", "55\n");
	CHECK_EQ(
	    limit_of("0::/\n", "1 2 0:1 / /a\\040b rw - cgroup2 n rw\n"), 55);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		const char *name = i == 2 ? " x\\" : plain[i];

		snprintf(mounts, sizeof(mounts),
		    "1 2 0:1 / /d%s rw - cgroup2 n rw\n", plain[i]);
		snprintf(path, sizeof(path), "/d%s/memory.max", name);
		tree_write(path, "56\n");
		CHECK_EQ(limit_of("0::/\n", mounts), 56);
	}
	tree_remove();
}

TEST(cgroup_below_a_mounted_part_is_found_there)
{
	static const char mounts[] =
	    "1 2 0:1 /part /mnt rw - cgroup2 none rw\n";

	tree_make();
	tree_write("/mnt/memory.max", "900\n");
	tree_write("/mnt/in/memory.max", "800\n");
	CHECK_EQ(limit_of("0::/part/in\n", mounts), 800);
	CHECK_EQ(limit_of("0::/part\n", mounts), 900);
	CHECK_EQ(limit_of("0::/part/\n", mounts), 900);
	CHECK_EQ(limit_of("0::/party\n", mounts), 900);
	CHECK_EQ(limit_of("0::/other\n", mounts), 900);
	tree_remove();
}

/* Longer than anything is kept for: a mount point, and what lies below it. */
TEST(cgroup_mount_points_beyond_every_buffer_are_no_limit)
{
	static char mounts[4096], name[1400], group[1000];

	memset(name, 'm', sizeof(name) - 1);
	memset(group, 'g', sizeof(group) - 1);
	tree_make();
	tree_write("/mnt/memory.max", "5\n");
	snprintf(mounts, sizeof(mounts), "1 2 0:1 / /%s rw - cgroup2 none rw\n",
	    name);
	CHECK_EQ(limit_of("0::/\n", mounts), UINT64_MAX);
	/* Each fits, and both together do not. */
	name[900] = '\0';
	snprintf(mounts, sizeof(mounts), "1 2 0:1 / /%s rw - cgroup2 none rw\n",
	    name);
	snprintf(name, sizeof(name), "0::/%s\n", group);
	CHECK_EQ(limit_of(name, mounts), UINT64_MAX);
	tree_remove();
}

TEST(cgroup_limits_at_the_edge_of_what_is_one)
{
	tree_make();
	tree_write("/sys/fs/cgroup/memory.max", "4611686018427387903\n");
	CHECK_EQ(limit_of("0::/\n", GROUP_MOUNT), 4611686018427387903u);
	tree_write("/sys/fs/cgroup/memory.max", "4611686018427387904\n");
	CHECK_EQ(limit_of("0::/\n", GROUP_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/memory.max", "46116860184273879040\n");
	CHECK_EQ(limit_of("0::/\n", GROUP_MOUNT), UINT64_MAX);
	tree_write("/sys/fs/cgroup/memory.max", "\n");
	CHECK_EQ(limit_of("0::/\n", GROUP_MOUNT), UINT64_MAX);
	/* A root so long that no file of it has a name. */
	tree_remove();
	static char root[3000];

	memset(root, 'r', sizeof(root) - 1);
	CHECK_EQ(weiri_os_cgroup_limit(root), UINT64_MAX);
}
