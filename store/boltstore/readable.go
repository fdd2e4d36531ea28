package boltstore

// readable says why an entry of a bucket cannot be one, or nil. Whoever reads entries that passed may take their keys apart. Of the trail,
// whose values are pieces of blocks, it looks at keys only.
func (id bucketID) readable(key, value []byte) error {
	lengths := map[bucketID]int{
		bAccounts: 8, bUsage: 8, bCopies: 16, bCondemned: 8, bBodies: 8, bSegments: 8, bJobs: 8, bTrail: pieceKeyLen, bTrailOpen: pieceKeyLen, bAudit: 8,
		bGrants: 16, bDevices: 16, bSessions: 32, bSessionOrder: 12 + 32, bClients: clientKeyLen,
	}
	least := map[bucketID]int{bAccountNames: 1, bAliases: 1, bAliasTargets: 9, bDue: dueHead + 1 + dueTail, bLent: 9, bStats: 5, bCounters: 1, bSecrets: 1,
		bHabits: habitHead + 1}
	if n, fixed := lengths[id]; fixed && len(key) != n || len(key) < least[id] {
		return errShortRecord
	}
	return id.readableValue(key, value)
}

func (id bucketID) readableValue(key, value []byte) (err error) {
	d := decoder{b: value}
	switch id {
	case bAccounts:
		_, err = decodeAccount(value)
	case bAccountNames:
		d.uint64()
	case bAliases:
		_, err = decodeIDs(value)
	case bUsage:
		_, err = decodeUsage(value)
	case bCopies:
		_, err = decodeListing(key, value)
	case bBodies:
		_, err = decodeShared(value)
	case bSegments:
		_, err = decodeLive(value)
	case bJobs:
		j, jobErr := decodeJob(value)
		if err = jobErr; err == nil && uint64(j.ID) != id8(key) {
			err = errShortRecord
		}
	case bAudit:
		_, err = decodeAudit(value)
	case bStats:
		d.varint()
	case bCounters:
		d.varint()
		d.time()
		d.varint()
		d.varint()
	case bGrants:
		_, err = decodeGrant(key, value)
	case bDevices:
		_, err = decodeDevice(key, value)
	case bClients:
		_, err = decodeClient(key, value)
	case bHabits:
		_, err = decodeHabit(key, value)
	case bSessions:
		d.time()
		d.bytes()
	}
	if err == nil {
		err = d.err
	}
	return err
}
