-- setup roles: those that the pages grant things to
CREATE ROLE telephony;
CREATE ROLE crm;
CREATE ROLE grafana;
CREATE ROLE recorder;
CREATE ROLE dialer;
CREATE ROLE restorer LOGIN;
