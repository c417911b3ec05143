/* A stand-in for NVIDIA's libnvidia-ml.so.1: the calls that a survey makes, answered from the file
 * `cards` beside it, which is read anew at each call. A line each:
 *
 *     init hang | init CODE                  what nvmlInit does (at most one such line)
 *     STATE UUID BUS BYTES MODEL             a card: ok, mig (MIG mode is on), lost, or hang
 *     load PERCENT BYTES                     how busy the card above is; without it the driver does not say
 *     part UUID GPU-INSTANCE COMPUTE-INSTANCE BYTES MODEL      a MIG device of the card above
 *
 * A call on a card that hangs comes back once its line says something else.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, FORBIDDEN = 4, NOT_FOUND = 6, LOST = 15, UNKNOWN = 999 };

struct entry {
    char state[16], uuid[96], bus[32], model[96];
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
    int has_load;
    unsigned percent;
    unsigned long long used;
};

/* As in nvml.h. */
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };

static FILE *cards(void) {
    Dl_info here;
    char path[4096];
    if (!dladdr((void *)cards, &here)) return NULL;
    const char *end = strrchr(here.dli_fname, '/');
    snprintf(path, sizeof path, "%.*s/cards", (int)(end - here.dli_fname), here.dli_fname);
    return fopen(path, "re");
}

/* Reads entry `part` of card `card`; part 0 is the card itself. Counts what is passed. */
static int find(unsigned card, unsigned part, struct entry *found, unsigned *count) {
    FILE *file = cards();
    char line[512];
    int at = -1, in = 0, result = NOT_FOUND;
    if (!file) return UNKNOWN;
    while (fgets(line, sizeof line, file)) {
        struct entry one = {0};
        int fields;
        if (!strncmp(line, "init", 4)) continue;
        if (!strncmp(line, "load", 4)) {
            if (at == (int)card && !part && found && result == OK)
                found->has_load = sscanf(line, "load %u %llu", &found->percent, &found->used) == 2;
            continue;
        }
        if (!strncmp(line, "part", 4)) {
            in++;
            fields = sscanf(line, "%15s %95s %u %u %llu %95[^\n]", one.state, one.uuid,
                            &one.gpu_instance, &one.compute_instance, &one.bytes, one.model);
            if (fields != 6) continue;
        } else {
            at++, in = 0;
            fields = sscanf(line, "%15s %95s %31s %llu %95[^\n]", one.state, one.uuid, one.bus,
                            &one.bytes, one.model);
            if (fields != 5) continue;
        }
        if (at == (int)card && in == (int)part && found) *found = one, result = OK;
    }
    fclose(file);
    if (count) *count = (unsigned)(at + 1);
    return result;
}

/* Waits as long as the card hangs; then its state. */
static int answer(void *handle, struct entry *found, int *is_part) {
    unsigned long number = (unsigned long)handle - 1;
    unsigned card = number / 64, part = number % 64;
    struct entry whole;
    int result;
    while (!(result = find(card, 0, &whole, NULL)) && !strcmp(whole.state, "hang")) usleep(10000);
    if (result) return result;
    if (!strcmp(whole.state, "lost")) return LOST;
    if (is_part) *is_part = part > 0;
    return find(card, part, found, NULL);
}

int nvmlInit_v2(void) {
    char word[16] = "";
    int code = OK, hangs = 1;
    while (hangs) {
        FILE *file = cards();
        char line[512];
        hangs = 0;
        if (!file) return UNKNOWN;
        while (fgets(line, sizeof line, file)) {
            if (sscanf(line, "init %15s", word) != 1) continue;
            hangs = !strcmp(word, "hang");
            if (!hangs) sscanf(word, "%d", &code);
        }
        fclose(file);
        if (hangs) usleep(10000);
    }
    return code;
}

int nvmlShutdown(void) { return OK; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "580.95.05");
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    find(0, 0, NULL, count);
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    struct entry entry;
    *handle = (void *)(1 + 64ul * index);
    return answer(*handle, &entry, NULL);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    struct entry entry;
    int result = answer(handle, &entry, NULL);
    if (!result) snprintf(uuid, length, "%s", entry.uuid);
    return result;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    struct entry entry;
    int result = answer(handle, &entry, NULL);
    if (!result) snprintf(name, length, "%s", entry.model);
    return result;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory *memory) {
    struct entry entry;
    int is_part = 0, result = answer(handle, &entry, &is_part);
    if (result) return result;
    if (memory->version != (sizeof *memory | 2u << 24)) return INVALID;
    /* What a driver says to a user of a whole card in MIG mode. */
    if (!is_part && !strcmp(entry.state, "mig")) return FORBIDDEN;
    memory->total = entry.bytes;
    memory->used = entry.has_load ? entry.used : 0;
    memory->free = memory->total - memory->used;
    memory->reserved = 0;
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *handle, struct utilization *rates) {
    struct entry entry;
    int is_part = 0, result = answer(handle, &entry, &is_part);
    if (result) return result;
    if (is_part || !entry.has_load) return UNSUPPORTED;
    rates->gpu = entry.percent;
    rates->memory = 0;
    return OK;
}

int nvmlDeviceGetPciInfo_v3(void *handle, struct pci *pci) {
    struct entry entry;
    int result = answer(handle, &entry, NULL);
    if (result) return result;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->legacy, sizeof pci->legacy, "%.15s", entry.bus);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s", entry.bus);
    return OK;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    struct entry entry;
    int result = answer(handle, &entry, NULL);
    if (result) return result;
    /* A consumer's card knows no MIG. */
    if (!strstr(entry.model, "00")) return UNSUPPORTED;
    *current = *pending = !strcmp(entry.state, "mig");
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    struct entry entry;
    *count = 7;
    return answer(handle, &entry, NULL);
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **part) {
    struct entry entry;
    *part = (char *)handle + 1 + index;
    return answer(*part, &entry, NULL);
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    struct entry entry;
    int is_part, result = answer(handle, &entry, &is_part);
    if (!result) *id = entry.gpu_instance;
    return result;
}

int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) {
    struct entry entry;
    int is_part, result = answer(handle, &entry, &is_part);
    if (!result) *id = entry.compute_instance;
    return result;
}
