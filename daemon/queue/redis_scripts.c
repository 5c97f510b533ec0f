/*
 * The Lua texts.  Each is one atomic step at the server.  The time is the
 * server's, so that the clocks of several operators do not matter.
 *
 * A script that settles returns 1, or 0 when the receipt is not good any more
 * (and then has changed nothing).
 */
#include "base/log.h"
#include "queue/redis_impl.h"

/* Before 7.0 a script that asks for the time must say this first. */
#define NOW \
	"if redis.replicate_commands then redis.replicate_commands() end " \
	"local t=redis.call('TIME') " \
	"local now=t[1]*1000+math.floor(t[2]/1000) "

/* ARGV: group consumer id */
#define STREAM_MINE \
	"local p=redis.call('XPENDING',KEYS[1],ARGV[1],ARGV[3],ARGV[3],1) " \
	"if not p[1] or p[1][2]~=ARGV[2] then return 0 end "

/* KEYS: zset hash; ARGV: id taking. The field "ID#" counts the takings: the
   receipt of the last one is good until the record is settled. */
#define DELAYED_MINE \
	"if redis.call('HGET',KEYS[2],ARGV[1]..'#')~=ARGV[2] then " \
	"return 0 end "

/* KEYS: processing settled; ARGV: consumer token number. 2: done before. */
#define NUMBERED \
	"local s=redis.call('HGET',KEYS[2],ARGV[1]) " \
	"if s then local k,n=string.match(s,'^(%x+):(%d+)$') " \
	"if k==ARGV[2] and tonumber(n)>=tonumber(ARGV[3]) then return 2 end " \
	"end " \
	"redis.call('HSET',KEYS[2],ARGV[1],ARGV[2]..':'..ARGV[3]) "

const char *const redis_script_text[REDIS_NSCRIPTS] = {

/* ---- streams ---- */

/* KEYS: stream; ARGV: group consumer id... -> 1 or 0 for each */
[SCRIPT_STREAM_EXTEND] =
	"local out,mine={},{} "
	"for i=3,#ARGV do "
	"local p=redis.call('XPENDING',KEYS[1],ARGV[1],ARGV[i],ARGV[i],1) "
	"if p[1] and p[1][2]==ARGV[2] then "
	"out[i-2]=1 mine[#mine+1]=ARGV[i] else out[i-2]=0 end end "
	"if #mine>0 then mine[#mine+1]='JUSTID' "
	"redis.call('XCLAIM',KEYS[1],ARGV[1],ARGV[2],0,unpack(mine)) end "
	"return out",

/* KEYS: stream zset hash; ARGV: group consumer id delete delay record */
[SCRIPT_STREAM_RETRY] = NOW STREAM_MINE
	"redis.call('HSET',KEYS[3],ARGV[3],ARGV[6]) "
	"redis.call('ZADD',KEYS[2],now+ARGV[5],ARGV[3]) "
	"redis.call('XACK',KEYS[1],ARGV[1],ARGV[3]) "
	"if ARGV[4]=='1' then redis.call('XDEL',KEYS[1],ARGV[3]) end "
	"return 1",

/*
 * KEYS: stream dead; ARGV: group consumer id delete, the fields that say why,
 * the message's own (for when the entry was trimmed meanwhile)
 */
[SCRIPT_STREAM_BURY] = STREAM_MINE
	"local e,f=redis.call('XRANGE',KEYS[1],ARGV[3],ARGV[3]),{} "
	"if e[1] then f=e[1][2] else for i=19,#ARGV do f[#f+1]=ARGV[i] end end "
	"for i=5,18 do f[#f+1]=ARGV[i] end "
	"redis.call('XADD',KEYS[2],'*',unpack(f)) "
	"redis.call('XACK',KEYS[1],ARGV[1],ARGV[3]) "
	"if ARGV[4]=='1' then redis.call('XDEL',KEYS[1],ARGV[3]) end "
	"return 1",

/* KEYS: stream; ARGV: group consumer idle id... */
[SCRIPT_STREAM_RELEASE] =
	"local mine={} "
	"for i=4,#ARGV do "
	"local p=redis.call('XPENDING',KEYS[1],ARGV[1],ARGV[i],ARGV[i],1) "
	"if p[1] and p[1][2]==ARGV[2] then mine[#mine+1]=ARGV[i] end end "
	"if #mine>0 then "
	"mine[#mine+1]='IDLE' mine[#mine+1]=ARGV[3] mine[#mine+1]='JUSTID' "
	"redis.call('XCLAIM',KEYS[1],ARGV[1],ARGV[2],0,unpack(mine)) end "
	"return 1",

/*
 * KEYS: stream zset dead; ARGV: group -> waiting, known, delayed, dead, age.
 * "lag" came with 7.0, is nil when entries ahead were deleted, and still counts
 * those that were trimmed.
 */
[SCRIPT_STREAM_PROBE] = NOW
	"local waiting,known,age=0,0,0 "
	"local groups=redis.pcall('XINFO','GROUPS',KEYS[1]) "
	"if groups.err then groups={} known=1 end "
	"for _,g in ipairs(groups) do local m={} "
	"for i=1,#g,2 do m[g[i]]=g[i+1] end "
	"if m.name==ARGV[1] then "
	"local last=m['last-delivered-id'] "
	"if m.lag then known=1 "
	"waiting=math.min(m.lag,redis.call('XLEN',KEYS[1])) else "
	"local s,info={},redis.call('XINFO','STREAM',KEYS[1]) "
	"for i=1,#info,2 do s[info[i]]=info[i+1] end "
	"if s['last-generated-id']==last then known=1 else "
	"waiting=math.max(0,s.length-m.pending) end end "
	"if waiting>0 then "
	"local e=redis.call('XRANGE',KEYS[1],'('..last,'+','COUNT',1) "
	"if e[1] then age=math.max(0,now-tonumber("
	"string.match(e[1][1],'^%d+'))) end end end end "
	"return {waiting,known,redis.call('ZCARD',KEYS[2]),"
	"redis.call('XLEN',KEYS[3]),age}",

/* KEYS: dead stream; ARGV: id count-of-our-fields */
[SCRIPT_STREAM_REDRIVE] =
	"local e=redis.call('XRANGE',KEYS[1],ARGV[1],ARGV[1]) "
	"if not e[1] then return 0 end "
	"local f,n=e[1][2],tonumber(ARGV[2]) "
	"if #f>n and f[#f-n+1]=='bot-error-type' then "
	"for i=1,n do f[#f]=nil end end "
	"redis.call('XADD',KEYS[2],'*',unpack(f)) "
	"redis.call('XDEL',KEYS[1],ARGV[1]) "
	"return 1",

/* ---- the delayed store ---- */

/*
 * KEYS: zset hash; ARGV: count lease max-bytes -> ms until the next is due
 * (-1: none), then of each taken: id, taking, record.  What is taken stays,
 * out of sight for a lease.
 */
[SCRIPT_DELAYED_TAKE] = NOW
	"local out,bytes={-1},0 "
	"if tonumber(ARGV[1])>0 then "
	"for _,id in ipairs(redis.call('ZRANGEBYSCORE',KEYS[1],'-inf',now,"
	"'LIMIT',0,ARGV[1])) do "
	"local r=redis.call('HGET',KEYS[2],id) "
	"if not r then redis.call('ZREM',KEYS[1],id) else "
	"redis.call('ZADD',KEYS[1],'XX',now+ARGV[2],id) "
	"out[#out+1]=id "
	"out[#out+1]=redis.call('HINCRBY',KEYS[2],id..'#',1) "
	"out[#out+1]=r bytes=bytes+#r "
	"if bytes>tonumber(ARGV[3]) then break end end end end "
	"local nx=redis.call('ZRANGE',KEYS[1],0,0,'WITHSCORES') "
	"if nx[2] then out[1]=math.max(0,tonumber(nx[2])-now) end "
	"return out",

/* KEYS: zset hash; ARGV: id... */
[SCRIPT_DELAYED_ACK] =
	"redis.call('ZREM',KEYS[1],unpack(ARGV)) "
	"for _,id in ipairs(ARGV) do "
	"redis.call('HDEL',KEYS[2],id,id..'#') end "
	"return 1",

/* KEYS: zset hash; ARGV: id taking delay record */
[SCRIPT_DELAYED_RETRY] = NOW DELAYED_MINE
	"redis.call('HSET',KEYS[2],ARGV[1],ARGV[4]) "
	"redis.call('HINCRBY',KEYS[2],ARGV[1]..'#',1) "
	"redis.call('ZADD',KEYS[1],now+ARGV[3],ARGV[1]) "
	"return 1",

/* KEYS: zset hash dead; ARGV: id taking fields... */
[SCRIPT_DELAYED_BURY] = DELAYED_MINE
	"local f={} for i=3,#ARGV do f[#f+1]=ARGV[i] end "
	"redis.call('XADD',KEYS[3],'*',unpack(f)) "
	"redis.call('ZREM',KEYS[1],ARGV[1]) "
	"redis.call('HDEL',KEYS[2],ARGV[1],ARGV[1]..'#') "
	"return 1",

/* KEYS: zset hash; ARGV: lease id taking id taking ... -> 1 or 0 for each */
[SCRIPT_DELAYED_EXTEND] = NOW
	"local out={} "
	"for i=2,#ARGV,2 do "
	"if redis.call('HGET',KEYS[2],ARGV[i]..'#')==ARGV[i+1] then "
	"redis.call('ZADD',KEYS[1],'XX',now+ARGV[1],ARGV[i]) out[#out+1]=1 "
	"else out[#out+1]=0 end end "
	"return out",

/* ---- lists ---- */

/* KEYS: list processing; ARGV: count pop push (RPOP LPUSH: oldest right) */
[SCRIPT_LIST_TAKE] =
	"local v=redis.call(ARGV[2],KEYS[1],ARGV[1]) "
	"if not v or #v==0 then return {} end "
	"redis.call(ARGV[3],KEYS[2],unpack(v)) "
	"return v",

/* KEYS: processing settled; ARGV: numbered, direction, value... */
[SCRIPT_LIST_ACK] = NUMBERED
	"for i=5,#ARGV do redis.call('LREM',KEYS[1],ARGV[4],ARGV[i]) end "
	"return 1",

/* KEYS: processing settled list; ARGV: numbered, direction, push, value...
   (oldest first, so the last goes back first) */
[SCRIPT_LIST_RELEASE] = NUMBERED
	"for i=#ARGV,6,-1 do "
	"if redis.call('LREM',KEYS[1],ARGV[4],ARGV[i])==1 then "
	"redis.call(ARGV[5],KEYS[3],ARGV[i]) end end "
	"return 1",

/* KEYS: processing settled zset hash;
   ARGV: numbered, direction, value, id, delay, record */
[SCRIPT_LIST_RETRY] = NOW NUMBERED
	"if redis.call('LREM',KEYS[1],ARGV[4],ARGV[5])==0 then return 0 end "
	"redis.call('HSET',KEYS[4],ARGV[6],ARGV[8]) "
	"redis.call('ZADD',KEYS[3],now+ARGV[7],ARGV[6]) "
	"return 1",

/* KEYS: processing settled dead; ARGV: numbered, direction, value, fields... */
[SCRIPT_LIST_BURY] = NUMBERED
	"if redis.call('LREM',KEYS[1],ARGV[4],ARGV[5])==0 then return 0 end "
	"local f={} for i=6,#ARGV do f[#f+1]=ARGV[i] end "
	"redis.call('XADD',KEYS[3],'*',unpack(f)) "
	"return 1",

/* KEYS: processing list; ARGV: from to count -> how many are left */
[SCRIPT_LIST_RESTORE] =
	"for i=1,tonumber(ARGV[3]) do "
	"if not redis.call('LMOVE',KEYS[1],KEYS[2],ARGV[1],ARGV[2]) then "
	"return 0 end end "
	"return redis.call('LLEN',KEYS[1])",

/* KEYS: processing list; ARGV: direction push value... (oldest first) */
[SCRIPT_LIST_GIVE_BACK] =
	"for i=#ARGV,3,-1 do "
	"if redis.call('LREM',KEYS[1],ARGV[1],ARGV[i])==1 then "
	"redis.call(ARGV[2],KEYS[2],ARGV[i]) end end "
	"return 1",

/* KEYS: consumers processing; ARGV: consumer register
   -> was registered, length of processing */
[SCRIPT_LIST_BEAT] = NOW
	"local known=redis.call('ZSCORE',KEYS[1],ARGV[1]) and 1 or 0 "
	"if known==1 or ARGV[2]=='1' then "
	"redis.call('ZADD',KEYS[1],now,ARGV[1]) end "
	"return {known,redis.call('LLEN',KEYS[2])}",

/*
 * KEYS: consumers list settled; ARGV: self dead-after prefix from to -> moved.
 * A whole list at once: its owner must see all of it gone, or none.
 */
[SCRIPT_LIST_REAP] = NOW
	"local moved=0 "
	"for _,c in ipairs(redis.call('ZRANGEBYSCORE',KEYS[1],'-inf',"
	"now-ARGV[2],'LIMIT',0,10)) do if c~=ARGV[1] then "
	"while redis.call('LMOVE',ARGV[3]..c,KEYS[2],ARGV[4],ARGV[5]) do "
	"moved=moved+1 end "
	"redis.call('ZREM',KEYS[1],c) redis.call('HDEL',KEYS[3],c) end end "
	"return moved",

/* KEYS: consumers processing list settled; ARGV: consumer from to */
[SCRIPT_LIST_LEAVE] =
	"while redis.call('LMOVE',KEYS[2],KEYS[3],ARGV[2],ARGV[3]) do end "
	"redis.call('ZREM',KEYS[1],ARGV[1]) redis.call('HDEL',KEYS[4],ARGV[1]) "
	"return 1",

/* KEYS: list zset dead -> waiting, known, delayed, dead, age */
[SCRIPT_LIST_PROBE] =
	"return {redis.call('LLEN',KEYS[1]),1,redis.call('ZCARD',KEYS[2]),"
	"redis.call('XLEN',KEYS[3]),0}",

/* KEYS: dead list; ARGV: id push */
[SCRIPT_LIST_REDRIVE] =
	"local e=redis.call('XRANGE',KEYS[1],ARGV[1],ARGV[1]) "
	"if not e[1] then return 0 end "
	"local f=e[1][2] "
	"for i=1,#f,2 do if f[i]=='body' then "
	"redis.call(ARGV[2],KEYS[2],f[i+1]) "
	"redis.call('XDEL',KEYS[1],ARGV[1]) return 1 end end "
	"return 0",

/* ---- Sidekiq ---- */

/* KEYS: processing settled zset;
   ARGV: numbered, direction, value, delay in seconds, job */
[SCRIPT_SIDEKIQ_RETRY] = NOW NUMBERED
	"if redis.call('LREM',KEYS[1],ARGV[4],ARGV[5])==0 then return 0 end "
	"redis.call('ZADD',KEYS[3],"
	"string.format('%.6f',t[1]+t[2]/1000000+ARGV[6]),ARGV[7]) "
	"return 1",

/* KEYS: queues, then the sets; ARGV: count -> moved */
[SCRIPT_SIDEKIQ_POLL] = NOW
	"local moved=0 "
	"for i=2,#KEYS do "
	"for _,v in ipairs(redis.call('ZRANGEBYSCORE',KEYS[i],'-inf',"
	"string.format('%.6f',now/1000),'LIMIT',0,ARGV[1])) do "
	"redis.call('ZREM',KEYS[i],v) "
	"local ok,j=pcall(cjson.decode,v) "
	"local q='default' "
	"if ok and type(j)=='table' and type(j.queue)=='string' then "
	"q=j.queue end "
	"redis.call('SADD',KEYS[1],q) "
	"redis.call('LPUSH','queue:'..q,v) moved=moved+1 end end "
	"return moved",

/* KEYS: dead list queues; ARGV: member job queue */
[SCRIPT_SIDEKIQ_REDRIVE] =
	"if redis.call('ZREM',KEYS[1],ARGV[1])==0 then return 0 end "
	"redis.call('SADD',KEYS[3],ARGV[3]) "
	"redis.call('LPUSH',KEYS[2],ARGV[2]) "
	"return 1",
};

static void
loaded(struct redis_queue *rq, const struct resp *reply, struct chunk *chunk,
    void *arg)
{
	size_t i = (size_t)(uintptr_t)arg;
	struct error err;

	(void)chunk;
	rq->scripts_loading--;
	if (reply == NULL || redis_failing(rq))
		return;
	if (reply->type == RESP_STRING && reply->str.n == SHA1_HEX) {
		memcpy(rq->sha[i], reply->str.p, SHA1_HEX + 1);
		if (rq->scripts_loading == 0 && rq->state == REDIS_SETTING_UP)
			rq->mode->setup(rq);
		return;
	}
	if (reply->type == RESP_ERROR)
		redis_error(rq, reply, &err);
	else
		error_set(&err, ERROR_PROTOCOL, "bad_reply",
		    "SCRIPT LOAD was answered with something else");
	redis_fail(rq, &err);
}

/* After a failover or SCRIPT FLUSH the server has forgotten them. */
void
redis_load_scripts(struct redis_queue *rq)
{
	struct redis_conn *c = &rq->writer;

	if (rq->scripts_loading != 0 || !c->ready)
		return;
	log_debug(LOG_QUEUE(rq->queue->name), "loading the scripts");
	for (size_t i = 1; i < REDIS_NSCRIPTS; i++) {
		redis_begin(c, 3);
		redis_arg_str(c, "SCRIPT");
		redis_arg_str(c, "LOAD");
		redis_arg_str(c, redis_script_text[i]);
		rq->scripts_loading++;
		redis_end(c, loaded, (void *)(uintptr_t)i, 0);
	}
}
