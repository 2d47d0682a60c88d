/* libmodsecurity behind a pipe: loads rules, reads requests from a file, and runs cases on command.
 *
 * Usage: peer RULES REQUESTS
 * Answers on standard output, a line each:
 *   at start            loaded MICROSECONDS RSS_KIB
 *   hot CASE COUNT      NANOSECONDS of processor time for COUNT runs of all requests of the case
 *   cold CASE COUNT     the same, with the caches swept before each run and the sweep not counted
 *   rss                 RSS_KIB
 */
#include <modsecurity/modsecurity.h>
#include <modsecurity/rules_set.h>
#include <modsecurity/transaction.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SWEEP_BYTES (64u << 20)

struct text { const unsigned char *bytes; uint32_t length; };
struct field { struct text name, value; };
struct request { char *method, *uri, *version; uint32_t fields; struct field *field; struct text body; };
struct set { uint32_t requests; struct request *request; };

static ModSecurity *engine;
static RulesSet *rules;
static unsigned char *sweep;

static void ignore_log(void *data, const void *message) { (void)data; (void)message; }

static void die(const char *why) { fprintf(stderr, "peer: %s\n", why); exit(1); }

/* Processor time of this thread. */
static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long rss_kib(void) {
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    if (!status) return -1;
    while (fgets(line, sizeof line, status)) if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
    fclose(status);
    return kib;
}

static uint32_t read_number(FILE *in) {
    unsigned char b[4];
    if (fread(b, 1, 4, in) != 4) die("the request file is short");
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static struct text read_text(FILE *in) {
    struct text t;
    t.length = read_number(in);
    unsigned char *bytes = malloc((size_t)t.length + 1);
    if (!bytes || fread(bytes, 1, t.length, in) != t.length) die("the request file is short");
    bytes[t.length] = 0;
    t.bytes = bytes;
    return t;
}

static struct set *read_sets(const char *path, uint32_t *count) {
    FILE *in = fopen(path, "rb");
    if (!in) die("cannot open the request file");
    *count = read_number(in);
    struct set *sets = calloc(*count, sizeof *sets);
    for (uint32_t s = 0; s < *count; s++) {
        sets[s].requests = read_number(in);
        sets[s].request = calloc(sets[s].requests, sizeof(struct request));
        for (uint32_t r = 0; r < sets[s].requests; r++) {
            struct request *q = &sets[s].request[r];
            q->method = (char *)read_text(in).bytes;
            q->uri = (char *)read_text(in).bytes;
            const char *protocol = (const char *)read_text(in).bytes;
            q->version = strdup(strncmp(protocol, "HTTP/", 5) == 0 ? protocol + 5 : protocol);
            q->fields = read_number(in);
            q->field = calloc(q->fields + 1, sizeof(struct field));
            for (uint32_t f = 0; f < q->fields; f++) {
                q->field[f].name = read_text(in);
                q->field[f].value = read_text(in);
            }
            q->body = read_text(in);
        }
    }
    fclose(in);
    return sets;
}

static void run_one(const struct request *q) {
    Transaction *t = msc_new_transaction(engine, rules, NULL);
    msc_process_connection(t, "192.0.2.10", 40000, "192.0.2.1", 80);
    msc_process_uri(t, q->uri, q->method, q->version);
    for (uint32_t f = 0; f < q->fields; f++)
        msc_add_n_request_header(t, q->field[f].name.bytes, q->field[f].name.length,
                                 q->field[f].value.bytes, q->field[f].value.length);
    msc_process_request_headers(t);
    if (q->body.length) msc_append_request_body(t, q->body.bytes, q->body.length);
    msc_process_request_body(t);
    msc_add_response_header(t, (const unsigned char *)"Content-Type", (const unsigned char *)"text/html");
    msc_add_response_header(t, (const unsigned char *)"Content-Length", (const unsigned char *)"0");
    msc_process_response_headers(t, 200, "HTTP/1.1");
    msc_process_response_body(t);
    msc_process_logging(t);
    msc_transaction_cleanup(t);
}

int main(int argc, char **argv) {
    if (argc != 3) die("usage: peer RULES REQUESTS");
    uint64_t start = now();
    engine = msc_init();
    msc_set_log_cb(engine, ignore_log);
    rules = msc_create_rules_set();
    const char *error = NULL;
    if (msc_rules_add_file(rules, argv[1], &error) < 0) die(error ? error : "the rules do not load");
    printf("loaded %llu %ld\n", (unsigned long long)(now() - start) / 1000, rss_kib());
    fflush(stdout);

    uint32_t count;
    struct set *sets = read_sets(argv[2], &count);
    sweep = malloc(SWEEP_BYTES);
    if (!sweep) die("out of memory");
    memset(sweep, 1, SWEEP_BYTES);

    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        unsigned index, repeat;
        uint64_t total = 0;
        if (strcmp(line, "rss\n") == 0) {
            printf("%ld\n", rss_kib() - (long)(SWEEP_BYTES >> 10));
        } else if (sscanf(line, "hot %u %u", &index, &repeat) == 2 && index < count) {
            uint64_t begin = now();
            for (unsigned i = 0; i < repeat; i++)
                for (uint32_t r = 0; r < sets[index].requests; r++) run_one(&sets[index].request[r]);
            total = now() - begin;
            printf("%llu\n", (unsigned long long)total);
        } else if (sscanf(line, "cold %u %u", &index, &repeat) == 2 && index < count) {
            for (unsigned i = 0; i < repeat; i++) {
                for (size_t at = 0; at < SWEEP_BYTES; at += 64) sweep[at]++;
                uint64_t begin = now();
                for (uint32_t r = 0; r < sets[index].requests; r++) run_one(&sets[index].request[r]);
                total += now() - begin;
            }
            printf("%llu\n", (unsigned long long)total);
        } else {
            die("unknown command");
        }
        fflush(stdout);
    }
    return 0;
}
