/* SPDX-License-Identifier: MIT */
/*
 * os_module.c - which build of a program or library is mapped.
 *
 *     base --> ELF header --> program headers --> notes --> build id
 *
 * The linker leaves the id in a note that is mapped with the code.  It is read
 * where it lies, by the kernel (weiri_os_peek()): a report may come when memory
 * is in ruins, and what seems to be a header may be none.  Async-signal-safe.
 */
#include "os/guard.h"
#include "os/os.h"

#ifdef __linux__
#include <elf.h>
#include <link.h>

#define MODULE_HEADERS 64
#define MODULE_NOTES 32
#define MODULE_ID_MAX 32

struct module_image {
	uintptr_t base;
	uintptr_t bias; /* what the linker's addresses are off by */
	ElfW(Ehdr) head;
};

static bool
module_header(const struct module_image *image, unsigned i, ElfW(Phdr) * header)
{
	uintptr_t at =
	    image->base + image->head.e_phoff + (uintptr_t)i * sizeof(*header);

	return weiri_os_peek((const void *)at, header, sizeof(*header));
}

/* Its first part is what is mapped at the base. */
static bool
module_open(struct module_image *image, uintptr_t base)
{
	ElfW(Phdr) header;

	image->base = base;
	if (!weiri_os_peek(
		(const void *)base, &image->head, sizeof(image->head)) ||
	    image->head.e_ident[EI_MAG0] != ELFMAG0 ||
	    image->head.e_ident[EI_MAG1] != ELFMAG1 ||
	    image->head.e_ident[EI_MAG2] != ELFMAG2 ||
	    image->head.e_ident[EI_MAG3] != ELFMAG3 ||
	    image->head.e_phentsize != sizeof(header) ||
	    image->head.e_phnum > MODULE_HEADERS)
		return false;
	for (unsigned i = 0; i < image->head.e_phnum; i++) {
		if (!module_header(image, i, &header))
			return false;
		if (header.p_type != PT_LOAD)
			continue;
		image->bias =
		    base - (uintptr_t)(header.p_vaddr - header.p_offset);
		return true;
	}
	return false;
}

/* The bytes of the id among the notes at @at, or 0. */
static size_t
module_note(uintptr_t at, size_t bytes, unsigned char id[MODULE_ID_MAX])
{
	ElfW(Nhdr) note;
	uint32_t name;

	for (unsigned i = 0; i < MODULE_NOTES && bytes >= sizeof(note); i++) {
		size_t names, whole;

		if (!weiri_os_peek((const void *)at, &note, sizeof(note)))
			return 0;
		names = ((size_t)note.n_namesz + 3) & ~(size_t)3;
		whole = sizeof(note) + names +
			(((size_t)note.n_descsz + 3) & ~(size_t)3);
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    note.n_descsz <= MODULE_ID_MAX &&
		    weiri_os_peek((const void *)(at + sizeof(note)), &name,
			sizeof(name)) &&
		    __builtin_memcmp(&name, "GNU", 4) == 0)
			return weiri_os_peek(
				   (const void *)(at + sizeof(note) + names),
				   id, note.n_descsz)
				   ? note.n_descsz
				   : 0;
		if (whole >= bytes)
			break;
		at += whole;
		bytes -= whole;
	}
	return 0;
}

bool
weiri_os_build_id(uintptr_t base, char hex[WEIRI_OS_BUILD_ID_BYTES])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char id[MODULE_ID_MAX];
	struct module_image image;
	ElfW(Phdr) header;
	size_t bytes = 0;

	static_assert(WEIRI_OS_BUILD_ID_BYTES == 2 * MODULE_ID_MAX + 1, "");
	if (!module_open(&image, base))
		return false;
	for (unsigned i = 0; i < image.head.e_phnum && bytes == 0; i++)
		if (module_header(&image, i, &header) &&
		    header.p_type == PT_NOTE)
			bytes = module_note(
			    image.bias + header.p_vaddr, header.p_memsz, id);
	for (size_t i = 0; i < bytes; i++) {
		hex[2 * i] = digits[id[i] >> 4];
		hex[2 * i + 1] = digits[id[i] & 15];
	}
	hex[2 * bytes] = '\0';
	return bytes > 0;
}
#else
bool
weiri_os_build_id(uintptr_t base, char hex[WEIRI_OS_BUILD_ID_BYTES])
{
	(void)base;
	hex[0] = '\0';
	return false;
}
#endif
