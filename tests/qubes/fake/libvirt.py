# SPDX-License-Identifier: Apache-2.0
"""As much of libvirt's Python module as qubesd touches when it starts, pauses and kills a qube: domains are entries in a dictionary, and everything done to one is written down."""
import itertools

VIR_DOMAIN_NOSTATE, VIR_DOMAIN_RUNNING, VIR_DOMAIN_BLOCKED, VIR_DOMAIN_PAUSED = 0, 1, 2, 3
VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_CRASHED, VIR_DOMAIN_PMSUSPENDED = 4, 5, 6, 7
VIR_DOMAIN_START_PAUSED = 1
VIR_ERR_NO_DOMAIN, VIR_ERR_INTERNAL_ERROR, VIR_ERR_INVALID_CONN, VIR_ERR_OPERATION_INVALID, VIR_ERR_OS_TYPE, VIR_ERR_NO_NODE_DEVICE = 42, 1, 6, 55, 4, 50
VIR_NODE_CPU_STATS_ALL_CPUS = -1


class libvirtError(Exception):  # pylint: disable=invalid-name
    """With the code that libvirt would give."""

    def __init__(self, text, code=VIR_ERR_INTERNAL_ERROR):
        super().__init__(text)
        self.code = code

    def get_error_code(self):
        return self.code

    def get_str2(self):
        return ""


class virDomain:  # pylint: disable=invalid-name
    """`calls` is the whole story of the domain, in order. `stopped` is called when it ends."""

    xids = itertools.count(7)

    def __init__(self, connection, xml):
        self.connection, self.xml, self.xid, self.now, self.cpu_ns = connection, xml, -1, VIR_DOMAIN_SHUTOFF, 0
        self.stopped = lambda: None
        self.calls = connection.calls

    def connect(self):
        return self.connection

    def createWithFlags(self, flags):  # pylint: disable=invalid-name
        if self.now != VIR_DOMAIN_SHUTOFF:
            raise libvirtError("is active", VIR_ERR_OPERATION_INVALID)
        self.xid, self.cpu_ns = next(self.xids), 0
        self.now = VIR_DOMAIN_PAUSED if flags & VIR_DOMAIN_START_PAUSED else VIR_DOMAIN_RUNNING
        self.calls.append(("create", self.xid, flags))

    def resume(self):
        if self.now != VIR_DOMAIN_PAUSED:
            raise libvirtError("is not paused", VIR_ERR_OPERATION_INVALID)
        self.now, self.cpu_ns = VIR_DOMAIN_RUNNING, self.cpu_ns + 10
        self.calls.append(("resume", self.xid))

    def suspend(self):
        self.now = VIR_DOMAIN_PAUSED
        self.calls.append(("suspend", self.xid))

    def destroy(self):
        if self.now == VIR_DOMAIN_SHUTOFF:
            raise libvirtError("is not active", VIR_ERR_OPERATION_INVALID)
        self.calls.append(("destroy", self.xid))
        self.now, self.xid = VIR_DOMAIN_SHUTOFF, -1
        self.stopped()

    def undefine(self):
        self.connection.domains = {uuid: domain for uuid, domain in self.connection.domains.items() if domain is not self}

    def XMLDesc(self, _flags=0):  # pylint: disable=invalid-name
        return self.xml

    def isActive(self):  # pylint: disable=invalid-name
        return self.now != VIR_DOMAIN_SHUTOFF

    def state(self, _flags=0):
        return [self.now, 0]

    def info(self):
        return [self.now, 0, 0, 1, self.cpu_ns]

    def ID(self):  # pylint: disable=invalid-name
        return self.xid


class Connection:
    """One hypervisor. `calls` holds what was done to its domains."""

    def __init__(self):
        self.domains, self.calls = {}, []

    def defineXML(self, xml):  # pylint: disable=invalid-name
        import lxml.etree  # pylint: disable=import-outside-toplevel

        uuid = lxml.etree.fromstring(xml).findtext("uuid")
        domain = self.domains.get(uuid)
        if domain is None:
            domain = self.domains[uuid] = virDomain(self, xml)
        domain.xml = xml
        return domain

    def lookupByUUID(self, raw):  # pylint: disable=invalid-name
        import uuid  # pylint: disable=import-outside-toplevel

        try:
            return self.domains[str(uuid.UUID(bytes=raw))]
        except KeyError:
            raise libvirtError("no such domain", VIR_ERR_NO_DOMAIN) from None

    def lookupByID(self, xid):  # pylint: disable=invalid-name
        if xid == 0:
            return virDomain(self, "<domain><devices/></domain>")
        for domain in self.domains.values():
            if domain.xid == xid:
                return domain
        raise libvirtError("no such domain", VIR_ERR_NO_DOMAIN)

    def getType(self):  # pylint: disable=invalid-name
        return "Xen"

    def getURI(self):  # pylint: disable=invalid-name
        return "xen:///"

    def isAlive(self):  # pylint: disable=invalid-name
        return True

    def close(self):
        pass


CONNECTION = Connection()


def open(_uri):  # pylint: disable=redefined-builtin
    return CONNECTION


def registerErrorHandler(_handler, _context):  # pylint: disable=invalid-name
    pass
